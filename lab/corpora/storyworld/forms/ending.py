"""How days end, and stories."""

ENDING = """
== noon : time=morning -> time=noon
at noon {he} rested with the {companion}.
at noon {he} counted the stones on the path.
at noon {hero} put {his} feet into cold water.
it was noon, and {hero} ate some bread.
at noon {hero} looked back at the long path.
by noon {hero} had come far.
at noon the {companion} and {hero} shared some bread.
a bell rang at noon, and {hero} counted and listened.

== dusk : time=noon -> time=evening
in the evening {he} sat close to the {companion}.
in the evening {he} looked for the first star.
in the evening the sky turned red, and {hero} stood still.
the evening came, and {hero} began to look for a bed.
in the evening {hero} lit a candle.
in the evening {hero} made a small fire.
when the evening star appeared, {hero} made a wish.
in the evening the birds sang for {hero}.

== night : time=evening -> time=night weather=none
{he} said good night to the {companion} and slept.
the {companion} and the {colour} {thing} were near, and {hero} slept.
soon the {nature} {kind} named {hero} was asleep.
{hero} fell asleep {spot}.
that night {hero} dreamed of the {house}.
when the moon came up, {hero} and the {companion} fell asleep.
"sleep well," said the {companion}, and soon {hero} was asleep.
{hero} counted the stars until sleep came.
{hero} lay down on soft moss and slept all night.
{hero} crept under a blanket and slept.
{he} fell asleep with the {colour} {thing} in {his} hand.

== found : keepsake=lost -> keepsake=held
under an old leaf {hero} found the {colour} {thing} at last.
a kind magpie brought the {colour} {thing} back to {hero}.
{hero} reached into {his} bag, and there was the {colour} {thing}.

== back : company=away -> company=with
that evening the {companion} came back to {hero}.
{hero} heard a happy call, and the {companion} was back.
"i missed you," said the {companion} and came home to {hero}.

== brought : gift!=none -> place={where} met=yes gift=none whom=none where=none
first {hero} brought the {gift} to the {whom} at the {where}.
before going home, {hero} left the {gift} with the {whom} at the {where}.
{hero} stopped at the {where} and gave the {whom} the {gift}.

== homeward : place!={near} -> place={near} helper=none
at last {hero} came home to the {house} near the {near}.
"there is my {house} near the {near}," said {hero}.
{hero} and the {companion} walked home to the {house} near the {near}.
the road led home to the {house} near the {near}, and {hero} smiled.

== keep : vow=open -> vow=kept
then {hero} {kept}, and the promise was kept.
{he} {kept} at last, and {hero} was proud.
on the very last day {hero} {kept}.
so {hero} {kept}, and everybody was happy.
with the help of the {companion}, {hero} {kept}.

== hearth
the {house} was warm, and {hero} was a happy {kind}.
{hero} looked at the stars over the {house}.
{he} and the {companion} lit the lamp in the {house}.
the {house} smelled of warm soup, and {hero} was hungry.
{hero} put the {thing} on a shelf in the {house}.
{hero} told the {companion} a funny story.
{he} washed {his} face.
{he} sat by the fire with the {companion}.
the {companion} sang an old song for {hero}.
{hero} ate some {bread|apples|soup}.
"it is good to be home," said {hero}.
the {companion} lay down at the feet of {hero}.
{hero} put a blanket on the bed.
{he} took off {his} coat and {his} hat.
"this was a wonderful journey," said the {companion} to {hero}.
{he} closed the door of the {house}.
the moon came up and smiled at {hero}.

== bed -> time=night
{he} closed {his} eyes and fell asleep.
{hero} crept into bed and was soon asleep.
sleep came softly to {hero}.
{hero} yawned once more and fell asleep.

== bye
good night, {hero}.
sweet dreams, {hero}.
sleep well, little {hero}.
"""
