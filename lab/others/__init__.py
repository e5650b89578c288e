"""The systems that the paper compares SpeechSSM with, at lab scale: GSLM, TWIST, Spirit LM, AudioLM.

Each goes on from a prompt by one method, that of `continuation.Continues`, up to a length of its own.

    units.py      clusters of self-supervised features: what GSLM, TWIST and Spirit LM speak
    one_voice.py  how long units last, and the voice that says them
    gslm.py       a language model of units
    twist.py      the same, from a language model of text
    spiritlm.py   text and units in one Transformer
    audiolm.py    semantic, coarse and fine tokens, a Transformer each
    originals.py  encoders and codecs of the originals in the place of ours
"""
