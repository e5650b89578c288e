"""The words and the map. No two words sound alike, and none is spelt oddly: what is heard is read by a small ear."""

from __future__ import annotations

HEROES = {
    "anna": "she", "tom": "he", "ruby": "she", "oscar": "he", "clara": "she", "finn": "he",
    "megan": "she", "leo": "he", "juliet": "she", "hugo": "he", "ivy": "she", "max": "he",
}  # fmt: skip
PRONOUNS = {"he": ("he", "him", "his"), "she": ("she", "her", "her")}
KINDS = ("fox", "bear", "mouse", "rabbit", "hedgehog", "badger", "squirrel", "panda", "beaver", "kitten")
COMPANIONS = ("dog", "frog", "duck", "turtle", "robin", "goat", "pony", "snail", "parrot", "donkey")
HELPERS = (
    "baker", "miller", "shepherd", "fisherman", "gardener", "king",
    "queen", "giant", "wizard", "sailor", "farmer", "painter",
)  # fmt: skip
PETS = ("lamb", "puppy", "piglet", "beetle", "swan", "sparrow")
HOUSES = ("cottage", "cabin", "barn", "tower", "tent", "wagon")
COLOURS = ("red", "blue", "green", "golden", "silver", "white", "yellow", "purple")
THINGS = ("lantern", "key", "ring", "bell", "flute", "map", "scarf", "shell", "feather", "button")
GIFTS = ("bread", "honey", "cheese", "butter", "jam", "milk", "cake", "wool")
SEASONS = ("spring", "summer", "autumn", "winter")
PROMISES = {  # what is promised, and how it is told when it is kept
    "find the lost star": "found the lost star", "bring the music home": "brought the music home",
    "wake the sleeping tree": "woke the sleeping tree", "open the secret door": "opened the secret door",
    "mend the broken clock": "mended the broken clock", "visit the old lighthouse": "visited the old lighthouse",
    "plant the magic seed": "planted the magic seed", "learn the oldest song": "learned the oldest song",
}  # fmt: skip
PLACES = {  # and the spot where one rests there
    "village": "beside the old well", "garden": "behind the stone wall", "meadow": "in the tall grass",
    "forest": "under the tall trees", "cave": "deep in the dark", "mountain": "on the high rocks",
    "valley": "along the narrow path", "bridge": "under the stone arch", "river": "beside the fast water",
    "lake": "on the quiet shore", "beach": "on the yellow sand", "castle": "inside the great hall",
}  # fmt: skip
_ROADS = (
    "village garden", "village meadow", "village bridge", "garden castle", "castle mountain", "meadow forest",
    "meadow lake", "forest cave", "forest valley", "cave mountain", "mountain valley", "valley river",
    "bridge river", "river lake", "lake beach", "beach village",
)  # fmt: skip
ROADS = {here: tuple(b if a == here else a for a, b in map(str.split, _ROADS) if here in (a, b)) for here in PLACES}
NATURES = ("brave", "little", "kind", "clever", "gentle", "cheerful", "curious", "quiet", "proud", "funny")
NAMING = frozenset(  # words that tell one cast from another
    {*HEROES, *COMPANIONS, *HOUSES, *COLOURS, *THINGS, *" ".join(PROMISES).split()} - {"the", "home"}
)


def _steps(goal: str) -> dict[str, int]:
    """Places -> steps to the goal."""
    found = {goal: 0}
    for here in (reached := [goal]):
        for next_ in ROADS[here]:
            if next_ not in found:
                found[next_] = found[here] + 1
                reached.append(next_)
    return found


STEPS = {goal: _steps(goal) for goal in PLACES}
