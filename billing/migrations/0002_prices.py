"""The prices of the models that agents use, in US dollars per million tokens (docs.anthropic.com, pricing)."""

from datetime import date

from django.db import migrations

VALID_FROM = date(2025, 1, 1)
PRICES = [
    # model, input, output, cache write (five minutes), cache read
    ("claude-opus-4-5", "5", "25", "6.25", "0.50"),
    ("claude-sonnet-4-5", "3", "15", "3.75", "0.30"),
    ("claude-haiku-4-5", "1", "5", "1.25", "0.10"),
]


def fill(apps, schema_editor):
    price = apps.get_model("billing", "Price")
    for model, fresh, output, write, read in PRICES:
        price.objects.get_or_create(
            model=model,
            valid_from=VALID_FROM,
            defaults={
                "input_per_mtok": fresh,
                "output_per_mtok": output,
                "cache_write_per_mtok": write,
                "cache_read_per_mtok": read,
            },
        )


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    # Going back leaves the rows: reservations may refer to them, and filling again skips what is there.
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
