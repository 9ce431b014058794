# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``nicmodel explain``."""

import argparse

from nicmodel.errors import UserError
from nicmodel.explain.pages import html, text
from nicmodel.explain.sights import Left, load
from nicmodel.explain.story import messages, of_message, of_record


def run(args: argparse.Namespace) -> int:
    """Tell a story on stdout, and as a page if it is wanted."""
    if args.message is not None and args.record is not None:
        raise UserError("say what to explain: either --message or --record")
    left = load(args.run)
    if args.message is None and args.record is None:
        return _list(left)
    if args.message is not None:
        story = of_message(left, args.message, args.flow)
    else:
        story = of_record(left, args.record, args.flow)
    for line in text(story):
        print(line)
    if args.html is not None:
        try:
            args.html.write_text(html(story))
        except OSError as error:
            raise UserError(f"cannot write {args.html}: {error.strerror}") from error
        print(f"{args.html}: open it in a browser")
    return 0


def _list(left: Left) -> int:
    """Say which messages there are."""
    lines = list(messages(left))
    if not lines:
        raise UserError("no SMT message was sent here; --record N tells of a TLS record")
    for line in lines:
        print(line)
    return 0
