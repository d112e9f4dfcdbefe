"""The commands `items …`: names, options and help. Each hands over to the module that does it, imported only then."""

from typing import Annotated

import typer

from monitor.cli.options import AsJson, ConfigPath, TargetName

items_app = typer.Typer(
    help="The items that are watched, and the built-in sync log.", no_args_is_help=True, rich_markup_mode=None
)

BuiltInTarget = Annotated[
    str | None,
    typer.Option("--target", "-t", help="Whose log.", show_default="the only target that uses the built-in log"),
]
Format = Annotated[
    str | None, typer.Option("--format", help="csv or jsonl.", show_default="guessed from the name, else the content")
]
IdColumn = Annotated[
    str | None,
    typer.Option("--id-column", help="Column (or JSON key) of the ids.", show_default="item_id, or the only column"),
]


@items_app.command("list")
def items_list(
    config: ConfigPath = None,
    target: TargetName = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            help="completed, pending, failed, not_found, invalid, unknown, removed or ignored; may be repeated.",
            show_default="all that are tracked",
        ),
    ] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Only those pending for longer than they may.")] = False,
    group: Annotated[str | None, typer.Option("--group", help="Only this group.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Only this status of the API, e.g. CHUNKING.")] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Only those that are so for longer, e.g. 2h.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many.")] = 50,
    wide: Annotated[bool, typer.Option("--wide", "-w", help="Shorten nothing to fit 80 columns.")] = False,
    as_json: AsJson = False,
) -> None:
    """List items, those with a problem before the others, the newest first.

    Example: ingestion-monitor items list --state failed --state not_found --older-than 2h
    """
    from monitor.cli.items import ListOptions
    from monitor.cli.items import listing as command

    options = ListOptions(
        target=target,
        states=tuple(state or ()),
        stuck=stuck,
        group=group,
        stage=stage,
        older_than=older_than,
        limit=limit,
        wide=wide,
        as_json=as_json,
    )
    command(config, options)


@items_app.command("show")
def items_show(
    item_id: Annotated[str, typer.Argument(help="Its id, as the sync log has it.")],
    config: ConfigPath = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show one item's whole life: what the sync log says, how it is, and every turn it took.

    Example: ingestion-monitor items show 6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11
    """
    from monitor.cli.items import show as command

    command(config, item_id, target, as_json=as_json)


@items_app.command("import")
def items_import(
    file: Annotated[str, typer.Argument(help="CSV or JSON lines; - reads standard input.")],
    config: ConfigPath = None,
    target: BuiltInTarget = None,
    file_format: Format = None,
    id_column: IdColumn = None,
    submitted_at_column: Annotated[
        str | None, typer.Option("--submitted-at-column", help="Column of the upload times.", show_default="none")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option("--group-column", help="Column to break reports down by.", show_default="none")
    ] = None,
    timezone: Annotated[str, typer.Option("--timezone", help="What times without an offset are in.")] = "UTC",
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if any line is bad.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take ids into the built-in sync log; importing again changes nothing. Bad lines are named, the rest imported.

    Example: ingestion-monitor items import uploads.csv --submitted-at-column uploaded_at
    """
    from monitor.cli.import_items import ImportOptions
    from monitor.cli.import_items import import_items as command

    options = ImportOptions(
        target=target,
        format=file_format,
        id_column=id_column,
        submitted_at_column=submitted_at_column,
        group_column=group_column,
        timezone=timezone,
        strict=strict,
        as_json=as_json,
    )
    command(config, file, options)


@items_app.command("remove")
def items_remove(
    item_ids: Annotated[list[str] | None, typer.Argument(help="Ids to remove.", show_default=False)] = None,
    config: ConfigPath = None,
    target: BuiltInTarget = None,
    from_file: Annotated[
        str | None, typer.Option("--from", help="A file of ids, as `items import` reads them; - is standard input.")
    ] = None,
    file_format: Format = None,
    id_column: IdColumn = None,
) -> None:
    """Take ids out of the built-in sync log; the next run marks them as removed.

    Example: ingestion-monitor items remove 6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11
    """
    from monitor.cli.import_items import ImportOptions
    from monitor.cli.import_items import remove as command

    options = ImportOptions(target=target, format=file_format, id_column=id_column)
    command(config, tuple(item_ids or ()), from_file, options)


@items_app.command("ignore")
def items_ignore(
    item_ids: Annotated[list[str], typer.Argument(help="Ids to ignore.", show_default=False)],
    config: ConfigPath = None,
    target: TargetName = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why, for whoever asks later; needed unless --undo.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Count and check them again.")] = False,
) -> None:
    """Neither count nor check items from now on, such as deliberately deleted ones; incidents let go of them.

    Example: ingestion-monitor items ignore 6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11 --reason "deleted on purpose"
    """
    from monitor.cli.items import ignore as command

    command(config, tuple(item_ids), target, reason, undo=undo)
