"""The nouns that the rehearsal model knows, with the fields that records of them usually have.

A field is written `key`, `key:kind`, `key=one|two|three` (a choice, with `_` for spaces); a leading `!` makes it
required. The first field of a noun is its title. `person`, `thing` and `event` say how nouns relate: an event refers
to a person and a thing.
"""

from typing import NamedTuple

from .lexicon import SYNONYMS
from .names import singular_of


class Noun(NamedTuple):
    """A kind of record: how it relates to others, its fields in the notation above, and titles for examples."""

    sort: str
    fields: str
    examples: tuple[str, str, str] | None = None


PEOPLE = ("Ana Ruiz", "Tomas Berg", "Priya Shah")
_PERSON = "!name email:email phone:phone"

NOUNS: dict[str, Noun] = {
    "member": Noun("person", f"{_PERSON} joined:date status=active|paused|left", PEOPLE),
    "customer": Noun("person", f"{_PERSON} address:long", PEOPLE),
    "client": Noun("person", f"{_PERSON} company notes:long", PEOPLE),
    "patient": Noun("person", f"{_PERSON} born:date allergies:long", PEOPLE),
    "student": Noun("person", f"{_PERSON} born:date year:number", PEOPLE),
    "teacher": Noun("person", f"{_PERSON} subject", PEOPLE),
    "volunteer": Noun("person", f"{_PERSON} skills:long available=weekdays|weekends|evenings", PEOPLE),
    "employee": Noun("person", f"{_PERSON} position started:date salary:money", PEOPLE),
    "guest": Noun("person", f"{_PERSON} diet=none|vegetarian|vegan coming:flag", PEOPLE),
    "participant": Noun("person", f"{_PERSON} paid:flag", PEOPLE),
    "donor": Noun("person", f"{_PERSON} since:date", PEOPLE),
    "supplier": Noun("person", f"{_PERSON} address:long", ("Northwind", "Grain & Co", "Harbour Supply")),
    "tenant": Noun("person", f"{_PERSON} moved_in:date rent:money", PEOPLE),
    "doctor": Noun("person", f"{_PERSON} speciality", PEOPLE),
    "trainer": Noun("person", f"{_PERSON} speciality", PEOPLE),
    "driver": Noun("person", f"{_PERSON} licence", PEOPLE),
    "owner": Noun("person", f"{_PERSON} address:long", PEOPLE),
    "contact": Noun("person", f"{_PERSON} company last_contact:date", PEOPLE),
    "player": Noun("person", f"{_PERSON} position number:number", PEOPLE),
    "neighbour": Noun("person", f"{_PERSON} house", PEOPLE),
    "tool": Noun(
        "thing",
        "!name category=hand_tool|power_tool|garden condition=good|worn|broken value:money",
        ("Cordless drill", "Ladder", "Hedge trimmer"),
    ),
    "book": Noun(
        "thing",
        "!title author isbn published:number shelf state=available|lent|lost",
        ("Middlemarch", "The Left Hand of Darkness", "Invisible Cities"),
    ),
    "bicycle": Noun(
        "thing",
        "!name size=S|M|L state=ready|rented|in_repair price_per_day:money",
        ("Red city bike", "Cargo bike", "Tandem"),
    ),
    "car": Noun("thing", "!name plate seats:number price_per_day:money", ("Blue estate", "Small electric", "Van")),
    "vehicle": Noun("thing", "!name plate mileage:number next_service:date", ("Van 1", "Van 2", "Truck")),
    "room": Noun("thing", "!name places:number price:money equipment:long", ("Garden room", "Blue room", "Studio")),
    "table": Noun("thing", "!name seats:number place=inside|terrace", ("Table 1", "Window table", "Long table")),
    "desk": Noun("thing", "!name floor:number price_per_day:money", ("Window desk", "Quiet desk", "Standing desk")),
    "product": Noun(
        "thing",
        "!name sku price:money stock:number reorder_at:number category",
        ("Olive oil 1 l", "Rye flour 5 kg", "Sea salt"),
    ),
    "item": Noun("thing", "!name category quantity:number place value:money", ("Blue box", "Lamp", "Folding chair")),
    "part": Noun("thing", "!name number stock:number price:money", ("Brake pad", "Chain", "Inner tube")),
    "pet": Noun("thing", "!name species=dog|cat|rabbit|other breed born:date notes:long", ("Bella", "Oscar", "Nala")),
    "plant": Noun("thing", "!name species place watered:date", ("Monstera", "Basil", "Fern")),
    "recipe": Noun(
        "thing",
        "!title course=starter|main|dessert minutes:number serves:number steps:long",
        ("Lentil soup", "Mushroom risotto", "Apple crumble"),
    ),
    "ingredient": Noun("thing", "!name amount unit=g|ml|piece vegan:flag", ("Red lentils", "Rice", "Apples")),
    "dish": Noun(
        "thing",
        "!name course=starter|main|dessert price:money vegetarian:flag description:long",
        ("Beetroot salad", "Dal with rice", "Lemon tart"),
    ),
    "film": Noun("thing", "!title director year:number seen:flag rating:number", ("Playtime", "Stalker", "Paterson")),
    "song": Noun("thing", "!title artist length album", ("So What", "Naima", "Blue in Green")),
    "game": Noun("thing", "!name players:number minutes:number age:number", ("Go", "Carcassonne", "Hanabi")),
    "machine": Noun("thing", "!name place serial_number next_service:date", ("Mill 1", "Lathe", "Oven")),
    "device": Noun(
        "thing", "!name serial_number bought:date state=in_use|spare|broken", ("Laptop 12", "Projector", "Camera")
    ),
    "property": Noun(
        "thing",
        "!name address:long rooms:number rent:money state=free|let",
        ("Mill Lane 3", "Station Road 9", "Attic flat"),
    ),
    "project": Noun(
        "thing", "!name goal:long starts:date ends:date budget:money", ("New website", "Office move", "Autumn fair")
    ),
    "course": Noun(
        "thing",
        "!title level=beginner|intermediate|advanced starts:date places:number fee:money",
        ("Pottery", "Spanish A1", "Drawing"),
    ),
    "class": Noun(
        "thing",
        "!title day=Monday|Wednesday|Friday starts_at:time places:number",
        ("Morning yoga", "Spinning", "Pilates"),
    ),
    "event": Noun(
        "thing",
        "!title date:date starts_at:time place places:number description:long",
        ("Summer concert", "Open day", "Quiz night"),
    ),
    "team": Noun("thing", "!name league founded:date", ("Falcons", "River Rovers", "Old Boys")),
    "company": Noun("thing", "!name industry website city", ("Northwind", "Blue Harbour", "Kite & Sons")),
    "document": Noun(
        "thing", "!title kind=contract|letter|report signed:date notes:long", ("Lease", "Offer", "Annual report")
    ),
    "idea": Noun(
        "thing",
        "!title description:long state=new|tried|kept votes:number",
        ("Shorter meetings", "Roof garden", "Book swap"),
    ),
    "habit": Noun("thing", "!name goal frequency=daily|weekly started:date", ("Run", "Read", "Practise")),
    "article": Noun(
        "thing", "!title author published:date text:long", ("Why we moved", "A year of trees", "Notes on bread")
    ),
    "task": Noun(
        "event",
        "!title due:date priority=low|normal|high status=open|in_progress|done notes:long",
        ("Write the offer", "Call the printer", "Order chairs"),
    ),
    "ticket": Noun(
        "event",
        "!title opened:date priority=low|normal|high status=open|waiting|closed description:long",
        ("Printer jams", "Cannot log in", "Broken door"),
    ),
    "invoice": Noun(
        "event",
        "!number issued:date due:date amount:money status=draft|sent|paid",
        ("2026-001", "2026-002", "2026-003"),
    ),
    "quote": Noun(
        "event",
        "!number issued:date valid_until:date amount:money status=draft|sent|accepted|refused",
        ("Q-101", "Q-102", "Q-103"),
    ),
    "order": Noun(
        "event",
        "!number ordered:date quantity:number total:money status=new|packed|sent|delivered",
        ("A-1001", "A-1002", "A-1003"),
    ),
    "sale": Noun("event", "!number sold:date quantity:number total:money", ("S-1", "S-2", "S-3")),
    "booking": Noun(
        "event",
        "!reference date:date starts_at:time hours:number status=asked|confirmed|cancelled",
        ("B-1", "B-2", "B-3"),
    ),
    "appointment": Noun(
        "event",
        "!reason date:date starts_at:time status=planned|kept|missed notes:long",
        ("Check-up", "Follow-up", "Consultation"),
    ),
    "loan": Noun("event", "!reference lent:date due:date returned:date", ("L-1", "L-2", "L-3")),
    "rental": Noun("event", "!reference from_date:date until:date price:money returned:flag", ("R-1", "R-2", "R-3")),
    "enrolment": Noun("event", "!reference enrolled:date paid:flag grade", ("E-1", "E-2", "E-3")),
    "visit": Noun("event", "!reason date:date notes:long", ("Vaccination", "First visit", "Follow-up")),
    "adoption": Noun("event", "!reference date:date fee:money status=asked|approved|done", ("A-1", "A-2", "A-3")),
    "expense": Noun(
        "event",
        "!description date:date amount:money category=travel|material|office paid:flag",
        ("Train to Lyon", "Paper", "Desk lamp"),
    ),
    "payment": Noun("event", "!reference date:date amount:money method=cash|card|transfer", ("P-1", "P-2", "P-3")),
    "donation": Noun("event", "!reference date:date amount:money receipt_sent:flag", ("D-1", "D-2", "D-3")),
    "lesson": Noun("event", "!topic date:date starts_at:time price:money", ("Scales", "Sight reading", "First steps")),
    "session": Noun("event", "!topic date:date minutes:number notes:long", ("Strength", "Endurance", "Stretching")),
    "shift": Noun("event", "!title date:date starts_at:time ends_at:time", ("Early", "Late", "Weekend")),
    "meeting": Noun("event", "!topic date:date place minutes:long", ("Board", "Kick-off", "Review")),
    "delivery": Noun(
        "event", "!reference date:date address:long status=planned|on_the_way|delivered", ("V-1", "V-2", "V-3")
    ),
    "repair": Noun(
        "event",
        "!title brought:date ready:date cost:money status=waiting|in_work|ready",
        ("Flat tyre", "New chain", "Brakes"),
    ),
    "deal": Noun(
        "event", "!title value:money stage=lead|offer|won|lost closes:date", ("Spring order", "Framework", "Pilot")
    ),
    "review": Noun("event", "!title stars:number date:date text:long", ("Lovely", "Good value", "Too loud")),
    "match": Noun("event", "!title date:date place score", ("Round 1", "Round 2", "Final")),
    "trip": Noun("event", "!destination starts:date ends:date cost:money", ("Lisbon", "Oslo", "Lake Como")),
    "wish": Noun("event", "!title price:money link fulfilled:flag", ("Bicycle", "Headphones", "Atlas")),
}


def known_noun(name: str) -> str | None:
    """The lexicon's noun for the last word of a name, singular or plural."""
    last = singular_of(name.casefold().split()[-1]) if name.split() else ""
    last = SYNONYMS.get(last, last)
    return last if last in NOUNS else None
