"""``corpora list|check|export``; what they need is imported when they run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from empathy_lightning.commands.options import Again, AllowLeftOut
from empathy_lightning.errors import InputError, meant

if TYPE_CHECKING:
    from empathy_lightning.corpora import Corpus
    from empathy_lightning.utterance import Utterance


def list_corpora() -> None:
    """Names, licences and where to get them."""
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


def check(name: str, root: str, /, *, protocol: str | None = None, out: Path | None = None) -> int:
    """Count, listen to every file and look for leaks; exit code 1 if something is wrong.

    Args:
        name: As in corpora list, or manifest for one of your own.
        root: Folder of the corpus in its official layout, or the manifest.
        protocol: Splits by a published protocol, see corpora list.
        out: Report as JSON (default: outputs/corpora/NAME.json).

    Returns:
        0; 1 if there are problems.

    Raises:
        InputError: If the corpus, the protocol or the place of the report cannot be used.
    """
    from empathy_lightning.data.check import check as listen_to
    from empathy_lightning.data.check import describe
    from empathy_lightning.data.published import protocol_named
    from empathy_lightning.files import check_target, write_json

    if out is None:
        named = Path(root).stem if name == "manifest" else name
        out = Path("outputs/corpora") / f"{named}.json"
    check_target(out, [])
    splits = protocol_named(protocol) if protocol else None
    report = listen_to(_corpus(name, root), splits)
    write_json(out, {"protocol": protocol, **report})
    print(f"{describe(report)}\nreport: {out}")
    return 1 if report["problems"] else 0


def export(
    name: str,
    root: str,
    /,
    *more: str,
    out: str,
    protocol: str | None = None,
    shards: bool = False,
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Write a corpus, or several, as one manifest.

    Args:
        name: As in corpora list, or manifest for one of your own.
        root: Folder of the corpus in its official layout, or the manifest.
        more: NAME and ROOT of each further corpus.
        out: FILE.jsonl or FILE.parquet; for shards a folder, or a URL such as s3://BUCKET/FOLDER.
        protocol: Splits by a published protocol, see corpora list.
        shards: Write Parquet shards with the audio inside.

    Raises:
        InputError: If the corpus or the protocol cannot be used, or the place holds something else.
    """
    from empathy_lightning.data.shard_export import write_shards
    from empathy_lightning.files import check_folder, check_target
    from empathy_lightning.storage import is_url, local_path

    if len(more) % 2:
        raise InputError(f"{more[-1]} has no folder: give NAME ROOT for each corpus")
    # Names and folders come by turns.
    named = list(zip((name, *more[::2]), (root, *more[1::2]), strict=True))
    file = Path(local_path(out))
    if not shards:
        if is_url(out):
            raise InputError(f"--out {out}: a manifest is written to a local file; --shards may go to a URL")
        check_target(file, [Path(folder) for _, folder in named])
        if file.suffix not in (".jsonl", ".parquet"):
            raise InputError(f"--out {out}: give FILE.jsonl or FILE.parquet, or a folder and --shards")
    elif not is_url(out):
        check_folder(file)
    utterances = _chosen([_corpus(*one) for one in named], protocol, allow_left_out)
    if shards:
        write_shards(utterances, out, again=again)
    else:
        _write(file, utterances, [one for one, _ in named], protocol, again)
    print(f"{len(utterances)} utterances in {out}")


def _write(
    file: Path, utterances: Sequence[Utterance], corpora: Sequence[str], protocol: str | None, again: bool
) -> None:
    """Write a manifest, unless it was written of the same."""
    from empathy_lightning.data.manifest import write_manifest
    from empathy_lightning.digests import utterances_digest
    from empathy_lightning.jobs import Claim

    content = utterances_digest(utterances, file.parent)
    claim = Claim(file, {"corpora": list(corpora), "protocol": protocol, "utterances": content})
    if not claim.is_done(again):
        claim.write()
        write_manifest(file, utterances)


def _chosen(corpora: Sequence[Corpus], protocol: str | None, allow_left_out: float) -> Sequence[Utterance]:
    """The corpora's utterances under the protocol, after a summary of what is left out."""
    from empathy_lightning.data.left_out import Tally
    from empathy_lightning.data.published import protocol_named
    from empathy_lightning.data.reading import read_split

    tally = Tally()
    splits = protocol_named(protocol) if protocol else None
    _, utterances = read_split(corpora, splits, tally)
    print(tally.describe(), file=sys.stderr)
    tally.refuse_above(allow_left_out, "--allow_left_out")
    return utterances


def _corpus(name: str, root: str) -> Corpus:
    from empathy_lightning.corpora import CORPORA
    from empathy_lightning.data import Manifest

    if name == "manifest":
        return Manifest(root)
    if name not in CORPORA:
        raise InputError(f"no corpus named {name!r}; there are manifest, {', '.join(CORPORA)}{meant(name, CORPORA)}")
    return CORPORA[name](root)
