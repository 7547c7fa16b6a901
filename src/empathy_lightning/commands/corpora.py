"""``corpora list|check|export``; what they need is imported when they run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from empathy_lightning.errors import InputError, meant
from empathy_lightning.options import add_again, add_left_out

if TYPE_CHECKING:
    from empathy_lightning.corpora import Corpus
    from empathy_lightning.utterance import Utterance


def add_corpora(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add all actions."""
    corpora = commands.add_parser("corpora", help="the corpora that can be read: list, check and export them")
    actions = corpora.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="names, licences and where to get them").set_defaults(run=_list_corpora)
    check = actions.add_parser("check", help="count, listen to every file and look for leaks; exit code 1 if wrong")
    export = actions.add_parser("export", help="write a corpus as one manifest")
    for action in (check, export):
        action.add_argument("name", help="as in `corpora list`, or manifest for one of your own")
        action.add_argument("root", help="folder of the corpus in its official layout, or the manifest")
        action.add_argument("--protocol", help="splits by a published protocol, see `corpora list`")
    add_again(export)
    check.add_argument("--out", type=Path, help="report as JSON (default: outputs/corpora/NAME.json)")
    check.set_defaults(run=_check_corpus)
    export.add_argument("--out", type=Path, required=True, help="FILE.jsonl or FILE.parquet, or a folder for shards")
    add_left_out(export)
    export.add_argument("--shards", action="store_true", help="write Parquet shards with the audio inside")
    export.set_defaults(run=_export_corpus)


def _list_corpora(options: argparse.Namespace) -> None:
    from empathy_lightning.corpora import CORPORA
    from empathy_lightning.data import PROTOCOLS

    for name, corpus in CORPORA.items():
        total = sum(corpus.counts.values())
        print(f"{name:<20}{total or '?':>7} utterances  {','.join(corpus.languages):<6}  {corpus.title}")
        print(f"{'':<20}licence: {corpus.licence}\n{'':<20}{corpus.access}")
        if corpus.unconfirmed:
            print(f"{'':<20}not confirmed: {corpus.unconfirmed}")
    print("\nprotocols")
    for name, protocol in PROTOCOLS.items():
        print(f"{name:<24}{protocol.citation}")


def _check_corpus(options: argparse.Namespace) -> int:
    from empathy_lightning.data.check import check, describe
    from empathy_lightning.data.published import protocol_named
    from empathy_lightning.files import check_target, write_json

    own = options.name == "manifest"
    out = options.out or Path("outputs/corpora") / f"{Path(options.root).stem if own else options.name}.json"
    check_target(out, [])
    protocol = protocol_named(options.protocol) if options.protocol else None
    report = check(_corpus(options.name, options.root), protocol)
    write_json(out, {"protocol": options.protocol, **report})
    print(f"{describe(report)}\nreport: {out}")
    return 1 if report["problems"] else 0


def _export_corpus(options: argparse.Namespace) -> None:
    from empathy_lightning.data.manifest import write_manifest
    from empathy_lightning.data.shards import write_shards
    from empathy_lightning.files import check_folder, check_target
    from empathy_lightning.jobs import Claim, utterances_digest

    if options.shards:
        check_folder(options.out)
    else:
        check_target(options.out, [Path(options.root)])
    utterances = _chosen(options)
    if options.shards:
        write_shards(utterances, options.out, again=options.again)
    else:
        content = utterances_digest(utterances, options.out.parent)
        claim = Claim(options.out, {"corpus": options.name, "protocol": options.protocol, "utterances": content})
        if not claim.is_done(options.again):
            claim.write()
            write_manifest(options.out, utterances)
    print(f"{len(utterances)} utterances in {options.out}")


def _chosen(options: argparse.Namespace) -> list[Utterance]:
    """The corpus's utterances under the protocol, after a summary of what is left out."""
    from empathy_lightning.data.left_out import Tally
    from empathy_lightning.data.published import protocol_named
    from empathy_lightning.data.reading import read_split

    tally = Tally()
    protocol = protocol_named(options.protocol) if options.protocol else None
    _, utterances = read_split([_corpus(options.name, options.root)], protocol, tally)
    print(tally.describe(), file=sys.stderr)
    tally.refuse_above(options.allow_left_out, "--allow-left-out")
    return utterances


def _corpus(name: str, root: str) -> Corpus:
    from empathy_lightning.corpora import CORPORA
    from empathy_lightning.data import Manifest

    if name == "manifest":
        return Manifest(root)
    if name not in CORPORA:
        raise InputError(f"no corpus named {name!r}; there are manifest, {', '.join(CORPORA)}{meant(name, CORPORA)}")
    return CORPORA[name](root)
