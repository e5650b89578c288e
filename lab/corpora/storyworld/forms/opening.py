"""How a story and its days begin, and under which sky."""

OPENING = """
== once
once upon a time there was a {nature} {Kind} named {Hero}.
there was once a {nature} {Kind} named {Hero}.
long ago there lived a {nature} {Kind} named {Hero}.
this is the story of {Hero}, a {nature} {Kind}.
tonight we tell of a {nature} {Kind} named {Hero}.
a {nature} {Kind} named {Hero} lived long ago.

== dwell -> place={near} company=with met=no
{hero} lived in a {House} near the {Near} with a {Companion}.
{hero} and a {Companion} lived in a {House} near the {Near}.
{he} lived in a {House} near the {Near} and had a {Companion}.
in a {House} near the {Near} lived {hero} and a {Companion}.
{hero} shared a {House} near the {Near} with a {Companion}.

== season
it was {Season} when the story of {hero} began.
one {Season}, {hero} began to dream of a long journey.
it was {Season}, and {hero} was ready for a long journey.
{Season} had come, and {hero} was happy.
on a warm day in {Season}, {hero} packed a bag.

== own -> keepsake=held
{hero} always carried a {Colour} {Thing}.
{hero} had a {Colour} {Thing} and loved it very much.
{his} grandmother once gave {hero} a {Colour} {Thing}.
{hero} never went away without a {Colour} {Thing}.
a {Colour} {Thing} was always with {hero}.
in {his} pocket {hero} kept a {Colour} {Thing}.

== vow -> vow=open
{hero} made a promise to {Promise}.
one day {hero} promised to {Promise}.
"i promise to {Promise}," said {hero}.
{hero} told the {companion}, "i promise to {Promise}."
{he} promised the {companion} to {Promise}.
"i will {Promise}," {hero} promised.

== dawn : time=none -> time=morning weather=none
one morning {hero} was ready to begin the long journey.
early one morning {hero} opened the door of the {house}.
one morning {hero} and the {companion} left the {house} behind.
{hero} closed the {house} and said, "now the journey begins."
== dawn : time=night -> time=morning weather=none
the next morning the {companion} and {hero} woke up early.
the next morning {hero} woke up early.
in the morning the {companion} woke {hero} with a song.
a new day began, and {hero} jumped up.
the birds were singing when {hero} opened {his} eyes.
when morning came, {hero} washed {his} face in cold water.
{hero} woke up, stretched and yawned.
"good morning," said the {companion} to {hero}.
{hero} woke up and was curious about the day.
the night was over, and {hero} ate some {bread|apples|soup}.

== sky : weather=none -> weather=sun
the {companion} ran into the sun, and {hero} followed.
the sun came up warm and bright.
it was a sunny day, and {hero} smiled.
there was not one cloud in the sky.
"what a sunny day," said {hero}.
== sky : weather=none season=spring|summer|autumn -> weather=rain
the {companion} woke up in the rain and looked at {hero}.
rain was falling from a gray sky.
it was a day of rain, and {hero} put on a coat.
"i will get wet today in the rain," said {hero}.
big drops of rain fell on the ground.
== sky : weather=none -> weather=wind
a strong wind was blowing.
it was a day of wind, and {hero} held on to {his} hat.
"listen to the wind," said {hero}.
== sky : weather=none -> weather=fog
thick fog lay over everything.
it was a day of fog, and {hero} could not look far.
"where did the world go?" asked {hero} in the fog.
== sky : weather=none season=winter -> weather=snow
soft snow lay on the ground.
it was a day of snow, and {hero} put on a warm coat.
"look at all this snow," said {hero}.
snow was falling without a sound.

== year : season=spring -> season=summer
the spring was over, and summer began.
{hero} could feel that spring had turned into summer.
"summer is here at last," said {hero}.
== year : season=summer -> season=autumn
the summer was over, and autumn began.
{hero} could feel that summer had turned into autumn.
"autumn is here, and the leaves turn yellow," said {hero}.
== year : season=autumn -> season=winter
the autumn was over, and winter began.
{hero} could feel that autumn had turned into winter.
"winter is here, and it is cold," said {hero}.
== year : season=winter -> season=spring
the winter was over, and spring began.
{hero} could feel that winter had turned into spring.
"spring is here, and the birds sing," said {hero}.

== turn : weather=sun season=spring|summer|autumn time!=evening -> weather=rain
dark clouds came, and it began to rain.
"i feel drops of rain," said {hero}.
the sun went away, and {hero} felt the first rain.
== turn : weather=sun time!=evening -> weather=wind
the sun went behind a cloud, and a wind began to blow.
"now the wind is waking up," said {hero}.
== turn : weather=sun season=winter time!=evening -> weather=snow
clouds hid the sun, and it began to snow.
the first snow fell on the nose of {hero}.
== turn : weather=wind season=spring|summer|autumn -> weather=rain
the wind brought rain, and {hero} put on a hat.
the wind became rain.
== burst : weather=rain|wind -> weather=storm
thunder rolled, and a storm began.
"a storm is coming," said {hero}.
the wind cried, and a storm began around {hero}.
== turn : weather=rain|wind|snow time!=evening -> weather=sun
the clouds broke, and the sun came out.
"look, the sun is back," said {hero}.
{hero} felt the sun on {his} face again.
== calm : weather=storm -> weather=rain
{he} and the {companion} listened, and the storm became a soft rain.
the storm grew tired and became a soft rain.
the thunder stopped, and only rain fell on {hero}.
== calm : weather=storm time!=evening -> weather=sun
the storm was over, and {hero} saw a rainbow in the sun.
"the storm is over, and the sun is back," said {hero}.
== turn : weather=fog time!=evening -> weather=sun
the fog went away, and the sun came out.
slowly the fog went away, and {hero} stood in the sun.
"the fog is gone, and the sun is out," said {hero}.

== air : weather=sun time!=evening
the sun was warm on the {place}.
{he} closed {his} eyes in the warm sun.
"the sun feels good," said {hero}.
{hero} and the {companion} lay in the sun for a while.
== air : weather=rain
the rain fell softly on the {place}.
{hero} jumped and danced in the rain.
"i like the sound of the rain," said {hero}.
the {companion} shook off the rain, and {hero} laughed.
== air : weather=wind
the wind danced around the {place}.
the wind took hold of {hero} from behind.
"the wind wants to play," said {hero}.
leaves danced around the {companion} in the wind.
== air : weather=fog
the {place} was asleep in the fog.
{hero} held out {his} hands in the fog.
"stay close to me in the fog," said {hero} to the {companion}.
== air : weather=snow
the {place} was white with snow.
{hero} made a ball of snow.
"the snow is so white and soft," said {hero}.
the {companion} made tiny circles in the snow.
== air : weather=storm
the storm shook the whole {place}.
{hero} counted the thunder of the storm.
"this storm will be over soon," said {hero}.
the {companion} hid from the storm behind {hero}.
"""
