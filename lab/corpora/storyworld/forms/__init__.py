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

from lab.corpora.storyworld.forms.ending import ENDING
from lab.corpora.storyworld.forms.events import EVENTS
from lab.corpora.storyworld.forms.journey import JOURNEY
from lab.corpora.storyworld.forms.opening import OPENING

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

FORMS = OPENING + JOURNEY + EVENTS + ENDING
