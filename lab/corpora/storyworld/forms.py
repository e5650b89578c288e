"""What can be said, and when: one line a form, under the header of its beat.

    == lose : keepsake=held -> keepsake=lost            beat : what must hold -> what holds afterwards
    {hero} looked down, and the {thing} was gone.       a form of it

`{Place}` with a capital tells the listener something new and `{place}` recalls it; `{tall|old|dark}` is a free choice.
A form that recalls needs what it recalls to be known. Besides (unless the header speaks of it) `{companion}` needs
company=with, `{thing}` keepsake=held, `{promise}` vow=open. In a header `a=b|c` is either, `a!=b` is not,
and `{near}` stands for what the variable `near` holds. A beat with several headers takes the forms that fit the world.

SCENES says in which order beats come: `scene: a b? c+` is a, then b half of the time, then c whenever it fits the
world. A scene with several lines is one of those whose first beat fits; `scene 3:` weighs three times as much.
"""

SCENES = """
opening: once dwell season own vow

day 3: dawn sky chat? trip scene noon trip scene air? dusk scene night
day 3: dawn sky trip scene noon scene air? trip scene dusk night
day 2: dawn sky chat trip scene noon scene trip dusk scene night
day: dawn year+ sky trip scene noon trip scene dusk scene? night

trip: go see? deliver+
trip: go see air? deliver+
trip: go look? deliver+

scene 2: meet greet? trade? talk? part
scene: meet greet trade part
scene 2: meet talk talk? ask? answer+ part
scene 2: again talk ask? answer+ part
scene 2: again trade part
scene 3: meet errand accept part
scene 2: again errand accept part
scene: lose grieve
scene: lose grieve? seek find joy?
scene 4: seek find joy?
scene: hungry eat
scene: weary rest
scene: fear comfort
scene 2: stray alone?
scene 4: alone reunite
scene: trouble help thanks?
scene 2: game fun
scene 3: turn air?
scene 2: burst air? shelter? calm
scene: shelter air?
scene 2: remember
scene 3: cherish
scene: wonder react
scene: ask answer
scene: chat look

ending: longing+ found+ back+ brought+ keep+ homeward+ hearth* bed bye
"""

FORMS = """
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

== lose : keepsake=held -> keepsake=lost
{hero} looked down, and the {thing} was gone.
"oh no, where is my {colour} {thing}?" cried {hero}.
{hero} fell down and lost the {colour} {thing}.
the {colour} {thing} fell out of the pocket of {hero}.
suddenly {hero} could not find the {colour} {thing}.
a magpie took the {colour} {thing} away from {hero}.
== grieve : keepsake=lost
{he} told the {companion} about the {colour} {thing}.
{he} sat down and cried for the {thing}.
"i cannot sleep without my {thing}," said {hero}.
without the {colour} {thing}, {hero} was not happy.
"it will come back," said the {companion} to {hero}.
{hero} was sad and could not smile.
"do not cry, we will find your {thing}," the {companion} told {hero}.
== seek : keepsake=lost
{hero} looked for the {thing} {spot}.
{hero} and the {companion} searched everywhere for the {thing}.
"the {thing} must be near the {place}," said {hero}.
{hero} turned over every stone to find the {thing}.
{he} lit a candle and searched for the {colour} {thing}.
== find : keepsake=lost -> keepsake=held
the {companion} found the {colour} {thing} {spot}.
{hero} saw something {colour}, and it was the {thing}.
"here is my {thing}," cried {hero}.
there lay the {colour} {thing}, and {hero} picked it up.
at last {hero} found the {colour} {thing} {spot}.
"is this your {thing}?" asked a small voice, and {hero} took it back.
== joy
{he} put the {thing} back in {his} pocket and smiled.
{hero} jumped for joy.
"i will never lose my {thing} again," said {hero}.
{he} kissed the {colour} {thing}.
{hero} shouted and danced in a circle.
{hero} hugged the {companion} again and again.

== hungry -> feeling=hungry
{he} and the {companion} were hungry.
"i am so hungry," said {hero}.
by now {hero} was very hungry.
{hero} was tired of walking and hungry.
"my belly is empty, and i am hungry," said {hero}.
a hungry {hero} looked for something to eat.
== eat : feeling=hungry -> feeling=none
{he} found some {berries|nuts|apples} and ate them all.
{hero} and the {companion} shared a {pear|pie|cake}.
the {companion} brought {hero} some {berries|nuts|cherries}.
{he} ate a {pear|pie|cake} and felt happy again.
{hero} made some soup and ate it all.
soon {hero} was full and happy again.

== weary -> feeling=tired
{he} and the {companion} were tired.
"my legs are tired," said {hero}.
after all that walking {hero} was tired.
{hero} was so tired and could not go on.
{hero} was tired and yawned.
== rest : feeling=tired -> feeling=none
{he} rested {spot} until {he} felt strong again.
{hero} slept for a while {spot}.
{hero} sat on a stone and rested.
the {companion} let {hero} rest on a soft blanket.
a short sleep made {hero} strong again.

== fear -> feeling=afraid
{he} was afraid and held on to the {thing}.
{hero} heard a strange noise and was afraid.
"i am afraid," whispered {hero}.
a dark shadow moved, and {hero} was afraid.
something moved in the grass, and {hero} was afraid.
{hero} was afraid of the dark.
== comfort : feeling=afraid -> feeling=none
"a {kind} can be brave," said {hero} and felt safe.
"do not be afraid, i am with you," the {companion} told {hero}.
it was only a leaf, and {hero} laughed.
it was only a bird, and {hero} smiled.
"i can be brave," said {hero}, and the fear went away.
{hero} held on to the {companion} and felt safe.
{he} began to sing and felt safe again.

== stray : company=with -> company=away
the {companion} ran after a bird and left {hero} alone.
"wait here, i will come back," the {companion} told {hero}.
suddenly {hero} could not see the {companion} anywhere.
the {companion} took another path, and {hero} was alone.
the {companion} went away to visit a friend.
{hero} turned around, but the {companion} was gone.
== alone : company=away
{hero} missed the {companion}.
"where is the {companion}?" asked {hero}.
{hero} called for the {companion}, but nobody answered.
{hero} was alone and sad without the {companion}.
{hero} thought of the {companion} and was quiet.
{he} looked for the {companion} {spot}.
== reunite : company=away -> company=with
then the {companion} came back to {hero}.
"there you are," cried {hero} and hugged the {companion}.
the {companion} was back, and {hero} was not alone any more.
{spot} {hero} found the {companion} again.
"i missed you, {hero}," said the {companion}, who was back at last.

== trouble : trouble!=open -> trouble=open
a little {Pet} lay hurt near the {place}.
{hero} heard a little {Pet} crying {spot}.
"please help me," a {Pet} called to {hero}.
{spot} {hero} saw a {Pet} with a hurt foot.
a {Pet} had lost its mother, and {hero} heard it cry.
== help : trouble=open -> trouble=over
{he} picked up the {pet} and carried it to a dry spot.
"i will help you," {hero} told the {pet}.
{hero} and the {companion} lifted the {pet} onto the grass.
{he} put the {pet} under a warm blanket.
{hero} gave the {pet} a drink of water.
the {pet} held on to {hero} and was safe.
== thanks : trouble=over
"you are a kind {kind}, {hero}," said the {pet}.
"thank you, {hero}," said the {pet}.
the {pet} kissed the face of {hero}.
"you are my best friend," the {pet} told {hero}.
the {pet} smiled at {hero} and ran home.
"i will never forget you, {hero}," said the {pet}.

== game
{he} and the {companion} played with the {thing} {spot}.
{hero} and the {companion} played a game {spot}.
"catch me if you can," {hero} called to the {companion}.
{he} stood on {his} head.
{hero} jumped over the stones {spot}.
the {companion} and {hero} ran around the {place}.
{hero} made a picture on the ground.
== fun
{he} laughed with the {companion}.
{he} laughed until {his} belly hurt.
"again, again," shouted {hero}.
the {companion} was first, and {hero} clapped.
"that was a good game," said {hero}.
{he} fell over and laughed.

== shelter : weather=rain|storm|snow|wind
{hero} found a dry place under a roof.
{hero} and the {companion} waited under a thick blanket.
"come under my coat," {hero} told the {companion}.
{he} waited behind a big stone.
"i am safe and dry here," said {hero}.

== remember : vow=open
{he} told the {companion} about the promise to {promise}.
{he} dreamed of the day to {promise}.
{hero} remembered the promise to {promise}.
"i must not forget to {promise}," said {hero}.
"how will we {promise}?" {hero} asked the {companion}.
"you promised to {promise}," said the {companion} to {hero}.
{hero} wanted to {promise} very soon.
"a promise is a promise," said {hero}.

== cherish : keepsake=held
{he} let the {companion} hold the {colour} {thing}.
{he} showed the {companion} the {colour} {thing}.
"i love my {colour} {thing}," {hero} told the {companion}.
"no {kind} has a better {thing}," said {hero}.
{hero} held the {colour} {thing} and thought of the {house}.
{hero} put the {colour} {thing} into the bag.
the {thing} felt warm in the hand of {hero}.
{hero} put the {thing} back in {his} pocket.
"this {thing} is my good luck," said {hero}.
the {companion} looked at the {colour} {thing} of {hero}.
{hero} was glad that the {thing} was still there.

== wonder
the {companion} showed {him} a letter {spot}.
{hero} saw a red balloon in the air.
{spot}, {hero} found a {tiny|round|strange} door.
{hero} found a letter in a bottle {spot}.
{hero} saw a light that moved in a circle.
{hero} heard strange music, but nobody was there.
{hero} found a nest with an egg {spot}.
== react
"did you see that?" {hero} asked the {companion}.
{he} called the {companion} to come and see.
"how wonderful," whispered {hero}.
{hero} stood still and closed {his} mouth.
the {companion} and {hero} looked at each other.
{hero} wanted to look again and again.
"what can that be?" asked {hero}.

== ask : riddle=none -> riddle=rain
"what falls and never gets hurt?" the {companion} asked {hero}.
{hero} asked a riddle, "what falls and never gets hurt?"
"what falls and never gets hurt?" the {helper} asked {hero}.
== ask : riddle=none -> riddle=shadow
"what follows us without a sound?" the {companion} asked {hero}.
{hero} asked a riddle, "what follows us without a sound?"
"what follows us without a sound?" the {helper} asked {hero}.
== ask : riddle=none -> riddle=clock
"what has hands but cannot clap?" the {companion} asked {hero}.
{hero} asked a riddle, "what has hands but cannot clap?"
"what has hands but cannot clap?" the {helper} asked {hero}.
== ask : riddle=none -> riddle=egg
"what must break before we use it?" the {companion} asked {hero}.
{hero} asked a riddle, "what must break before we use it?"
"what must break before we use it?" the {helper} asked {hero}.
== answer : riddle=rain -> riddle=none
"it is the rain," {hero} answered.
the answer was the rain, and {hero} clapped.
== answer : riddle=shadow -> riddle=none
"it is a shadow," {hero} answered.
the answer was a shadow, and {hero} clapped.
== answer : riddle=clock -> riddle=none
"it is a clock," {hero} answered.
the answer was a clock, and {hero} clapped.
== answer : riddle=egg -> riddle=none
"it is an egg," {hero} answered.
the answer was an egg, and {hero} clapped.

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
