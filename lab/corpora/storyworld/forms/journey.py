"""On the way: talk, places, helpers, errands."""

JOURNEY = """
== chat
the {companion} told {him} a funny story.
"today i will carry the {thing} for you," said the {companion} to {hero}.
{he} looked for the {colour} {thing}, and it was still there.
"i am the best {kind} in the world," said {hero}.
"where will i go today?" asked {hero}.
"i had a funny dream," said {hero}.
"today will be a good day," said {hero}.
{hero} sang a happy tune.
{hero} told the {companion} about a dream.
the {companion} asked {hero} for one more story.
"are you ready?" {hero} asked the {companion}.
"i am always ready," said the {companion} to {hero}.
"i am glad that you are with me," {hero} told the {companion}.

== longing : place!={near}
"i want to go home," said {hero}.
it was time to go home, and {hero} was glad.
"let us go home now," {hero} told the {companion}.
{he} looked back and thought of the {house}.

== go -> helper=none
{hero} and the {companion} walked to the {Place}.
{hero} followed the {companion} to the {Place}.
soon {hero} and the {companion} reached the {Place}.
then {he} left for the {Place}, and the {companion} came along.
{hero} took the path to the {Place}.
"i want to go to the {Place}," said {hero}.
after a while {hero} came to the {Place}.
{he} ran all the way to the {Place}.
after a long walk {hero} arrived at the {Place}.
the road led {hero} to the {Place}.
== go : gift!=none -> helper=none
{hero} carried the {gift} to the {Place}.
with the {gift} in a basket, {hero} walked to the {Place}.
{hero} and the {companion} took the {gift} to the {Place}.
to find the {whom}, {hero} went to the {Place}.
"i must bring the {gift}," said {hero} and ran to the {Place}.
{he} held the {gift} and followed the path to the {Place}.

== see : place=village
children were singing in the village.
{he} waved at the children in the village.
the village smelled of warm bread and soup.
== see : place=garden
the garden smelled of apples.
{hero} walked under every tree in the garden.
{hero} opened the gate and walked into the garden.
== see : place=meadow
the grass of the meadow was soft under the feet of {hero}.
a small bird sang in the meadow.
{he} danced in the grass of the meadow.
== see : place=forest
the trees of the forest whispered.
{hero} heard an owl in the forest.
the forest smelled of moss.
== see : place=cave
drops of water fell in the cave.
{hero} called, and the cave answered.
it was cold in the cave, and {hero} lit a candle.
== see : place=mountain
from the mountain {hero} could look over the whole world.
a big bird danced in the air over the mountain.
{he} climbed over the stones of the mountain.
== see : place=valley
a bell rang far down in the valley.
{hero} sang, and the valley sang back.
a long shadow lay across the valley.
== see : place=bridge
the old bridge shook under {hero}.
{he} counted the stones of the bridge.
a fish jumped under the bridge.
== see : place=river
the river danced over round stones.
{he} put {his} feet into the river.
{hero} took a drink of water from the river.
== see : place=lake
the lake was quiet and deep.
{he} looked at {his} face in the lake.
a small boat danced on the lake.
== see : place=beach
the waves sang on the beach.
{he} made a mountain of sand on the beach.
a tiny crab ran over the beach.
== see : place=castle
a flag danced in the air over the castle.
{he} walked under the gate of the castle.
the whole castle smelled of roses.

== look
{he} and the {companion} looked around {spot}.
the {companion} showed {him} a path {spot}.
{he} held the {colour} {thing} and looked around {spot}.
the {kind} named {hero} looked around {spot}.
{hero} was a happy {kind} at the {place}.
{hero} looked around {spot}.
everything was still {spot}.
{hero} sat down {spot} for a while.
{spot}, {hero} stopped and listened.
{hero} loved the {place} very much.
{he} looked {spot} and saw a {tiny|round|strange} stone.
the {companion} ran around {spot}, and {hero} waited.
"this {place} is wonderful," said {hero}.

== meet : helper=none met=no
{he} and the {companion} met a {nature} {Helper} {spot}.
there {hero} met a {nature} {Helper}.
a {nature} {Helper} was waiting {spot}, and {hero} stopped.
near the {place} lived a {nature} {Helper}.
{spot} {hero} found a {nature} {Helper}.
{he} had never met the {Helper} of the {place} before.
then {hero} saw a {Helper} {spot}.

== greet
"what a {nature} {kind} you are, {hero}," said the {helper}.
"good day, {nature} {helper}," said {hero}.
"come to my table," said the {helper} to {hero}.
"who are you?" the {helper} asked {hero}.
"my name is {hero}," the {kind} told the {helper}.
{hero} shook the hand of the {helper}.
the {helper} waved at {hero} and the {companion}.

== again : helper=none met=yes
near the {place}, {hero} met the {Helper} again.
"you came back," the {Helper} called to {hero}.
the {Helper} of the {place} was happy to have {hero} back.
"do you remember me?" {hero} asked the {Helper}.
{he} found {his} friend the {Helper} {spot}.

== talk
"where are you going?" the {helper} asked {hero}.
"i promised to {promise}," {hero} told the {helper}.
{hero} showed the {colour} {thing} to the {helper}.
"what a wonderful {colour} {thing}," said the {helper} to {hero}.
the {helper} told {hero} a story about the {place}.
the {helper} gave {hero} a cup of {milk|water|soup}.
{hero} and the {helper} talked for a long time.
the {helper} danced with the {companion}, and {hero} clapped.
"i live in a {house} near the {near}," {hero} told the {helper}.
== talk : keepsake=lost
"have you seen my {colour} {thing}?" {hero} asked the {helper}.
"i have lost my {thing}," {hero} told the {helper}.
== talk : company=away
"have you seen a {companion}?" {hero} asked the {helper}.
== trade : helper=baker
{hero} helped the baker make some bread.
the baker gave {hero} a small cake.
== trade : helper=miller
{hero} helped the miller carry a bag.
the miller showed {hero} a big stone.
== trade : helper=shepherd
{hero} helped the shepherd count the sheep.
the shepherd played a happy tune for {hero}.
== trade : helper=fisherman
{hero} helped the fisherman catch a fish.
the fisherman told {hero} about a fish as big as a house.
== trade : helper=gardener
{hero} helped the gardener plant a tree.
the gardener gave {hero} a yellow flower.
== trade : helper=king
{hero} bowed to the king.
the king let {hero} put on the crown.
== trade : helper=queen
{hero} danced with the queen.
the queen laughed with {hero}.
== trade : helper=giant
{hero} climbed on the shoulder of the giant.
the giant had a voice like thunder.
== trade : helper=wizard
the wizard made a round stone sing for {hero}.
{hero} picked up the hat of the wizard.
== trade : helper=sailor
{hero} sat in the boat of the sailor.
the sailor sang for {hero} about the waves.
== trade : helper=farmer
{hero} helped the farmer carry some apples.
the farmer let {hero} hold a small chicken.
== trade : helper=painter
{hero} sat still while the painter made a picture.
the painter showed {hero} a picture of the whole world.

== part -> helper=none met=now
{he} and the {companion} said goodbye to the {helper}.
"goodbye, {hero}," said the {helper}.
"thank you and goodbye," {hero} said to the {helper}.
then {hero} waved goodbye to the {helper}.
the {helper} wished {hero} good luck and went away.
"until we meet again," said the {helper} to {hero}.

== errand : gift=none
"please bring this {Gift} to the {Whom} from the {Where}," said the {helper}.
the {helper} asked {hero} to bring some {Gift} to the {Whom} from the {Where}.
"can you take some {Gift} to the {Whom} from the {Where}?" asked the {helper}.
"the {Whom} from the {Where} waits for this {Gift}," the {helper} told {hero}.
"will you carry this {Gift} to the {Whom} from the {Where}?" asked the {helper}.
== accept : gift!=none
{he} gave the {gift} to the {companion} to carry.
"i will bring the {gift}," said {hero}.
{he} put the {gift} into a basket.
"the {whom} will have the {gift} soon," {hero} promised.
{hero} took the {gift} and smiled.
"the {gift} is safe with me," said {hero}.

== deliver : place={where} helper=none -> gift=none whom=none where=none
{hero} gave the {gift} to the {whom}, and the {whom} thanked {him}.
"here is your {gift}," said {hero} to the {whom}.
the {whom} was happy to get the {gift} from {hero}.
near the {place} the {whom} took the {gift} and hugged {hero}.
{hero} found the {whom} and gave away the {gift}.
"at last, my {gift}," the {whom} cried and thanked {hero}.
"""
