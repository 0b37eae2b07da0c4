"""Up to which row a tenant may name public chunks that nobody has written down, instead of only that it may."""

from django.db import migrations, models
from django.db.models import Max


def limit_what_is_not_written_down(apps, schema_editor):
    Collection = apps.get_model("storage", "Collection")
    last = apps.get_model("storage", "Chunk").objects.aggregate(last=Max("pk"))["last"] or 0
    Collection.objects.filter(knows_public=False).update(unwritten_up_to=last)


class Migration(migrations.Migration):
    dependencies = [("storage", "0007_leaf_packs")]

    operations = [
        migrations.AddField(
            model_name="collection",
            name="unwritten_up_to",
            field=models.BigIntegerField(
                blank=True,
                help_text="Nodes of the tenant may name public chunks, up to this row, of which that is not "
                "written down; the next run does that",
                null=True,
            ),
        ),
        migrations.RunPython(limit_what_is_not_written_down, migrations.RunPython.noop, elidable=True),
        migrations.RemoveIndex(model_name="collection", name="collections_unknowing"),
        migrations.RemoveField(model_name="collection", name="knows_public"),
        migrations.AddIndex(
            model_name="collection",
            index=models.Index(
                condition=models.Q(("unwritten_up_to__isnull", False)),
                fields=["tenant"],
                name="collections_unwritten",
            ),
        ),
    ]
