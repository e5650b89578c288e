"""What befalls a hero: things lost and found, needs, fears, company, troubles, games, riddles."""

EVENTS = """
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
"""
