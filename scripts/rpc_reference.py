#!/usr/bin/env python3
"""Writes docs/rpc.md: every method that can be called over the bus, and every type in its arguments and answers.

    scripts/rpc_reference.py           writes the page
    scripts/rpc_reference.py --check   fails if the page is not up to date

The methods are read from the tables at the top of the files in crates/rpcapi/src. The types are the public structs and enums of
crates/rpcapi and crates/objects, with their doc comments. A type is on the page if a method's line names it, if it is declared
beside the methods, or if a type on the page has it in a field.

Left out: the formats of `document`, which docs/evaluate.md describes, and Nova's objects.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "rpc.md"
METHODS = ("scheduler", "compute", "base", "nova_scheduler")
HEAD = """# RPC reference

This page is made from the code by `scripts/rpc_reference.py`. The messages are those of oslo.messaging's RPC over AMQP 0-9-1;
[interop](interop.md) shows how a Python program sends and reads them. Arguments are passed by name. A caller names the
version that it needs, and a server answers if its own version has the same major number and at least this minor one.

A type in the column "type" is JSON: `string`, `integer`, `number`, `true or false`, `list of`, `map of` (an object with any
keys), `any` (any JSON value), or a type of this page. A field that is marked "optional" may be left out or be null.
"""
PLAIN = {
    "String": "string", "str": "string", "Uuid": "uuid", "bool": "true or false", "f64": "number", "f32": "number",
    "Value": "any", "RawValue": "any", "char": "string",
} | dict.fromkeys(("u8", "u16", "u32", "u64", "usize", "i32", "i64"), "integer")  # fmt: skip
# Clients, servers and helpers, which are not sent over the wire.
NOT_ON_THE_WIRE = re.compile(r"(Api|Server|Handler)$|^Names$")


class Type:
    """A struct or an enum: its doc comment, and its fields or variants as (name, Rust type, doc, is optional)."""

    def __init__(self, kind, doc, rows):
        self.kind, self.doc, self.rows = kind, doc, rows


def prose(lines):
    """Doc comment lines as one line of Markdown, without links into the code."""
    text = " ".join(line.strip() for line in lines if line.strip())
    text = re.sub(r"\[`([^`\]]+)`\](\([^)]*\))?", r"`\1`", text)
    return text.replace("|", "\\|")


def types_of(text):
    """The public structs and enums of a file."""
    found, lines, at = {}, text.splitlines(), 0
    while at < len(lines):
        opening = re.match(r"pub (struct|enum) (\w+)(?:<[^>]*>)? \{$", lines[at])
        if not opening:
            at += 1
            continue
        start = at
        while start and (lines[start - 1].startswith(("///", "#[", "    ", ")]"))):
            start -= 1
        above = lines[start:at]
        doc = prose(line[3:] for line in above if line.startswith("///"))
        attributes = " ".join(line for line in above if not line.startswith("///"))
        case = re.search(r'rename_all = "(\w+)"', attributes)
        end = lines.index("}", at)
        rows = members(lines[at + 1 : end], opening[1], case and case[1], "serde(default" in attributes)
        found[opening[2]] = Type(opening[1], doc, rows)
        at = end
    return found


def members(lines, kind, case, all_optional):
    """The fields of a struct, or the variants of an enum with their fields."""
    rows, doc, attributes, depth_of_fields, variant = [], [], "", 4, None
    for line in lines:
        stripped, indent = line.strip(), len(line) - len(line.lstrip())
        if stripped.startswith("///"):
            doc.append(stripped[3:])
        elif stripped.startswith("#["):
            attributes += stripped
        elif field := re.match(r"(?:pub )?(?:r#)?(\w+): (.+?),?$", stripped):
            if kind == "struct" and not stripped.startswith("pub "):
                doc, attributes = [], ""
                continue
            name = renamed(attributes, None) or field[1]
            inside = f"{variant}: " if indent > depth_of_fields and variant else ""
            optional = all_optional or "serde(default" in attributes or field[2].startswith("Option<")
            rows.append((inside + name, field[2], prose(doc), optional))
            doc, attributes = [], ""
        elif choice := re.match(r"(\w+)(?:\((.+)\))?( \{)?,?$", stripped):
            name = renamed(attributes, None) or cased(choice[1], case)
            rows.append((name, choice[2] or "", prose(doc), False))
            variant = name if choice[3] else None
            doc, attributes = [], ""
        elif stripped in ("}", "},"):
            variant = None
    return rows


def renamed(attributes, otherwise):
    """The name on the wire that an attribute sets."""
    name = re.search(r'\brename = "([^"]+)"', attributes)
    return name[1] if name else otherwise


def cased(name, case):
    """A variant's name as serde writes it."""
    if case == "snake_case":
        return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()
    return name.lower() if case == "lowercase" else name


def wire_type(rust, known):
    """A Rust type in the words of the page."""
    rust = re.sub(r"&?'\w+ ?", "", rust).replace("std::collections::", "").strip()
    if inner := re.match(r"(Option|Box|Arc|Cow)<,? ?(.+)>$", rust):
        return wire_type(inner[2], known)
    if inner := re.match(r"(?:Vec|BTreeSet|HashSet)<(.+)>$", rust) or re.match(r"\[(.+)\]$", rust):
        return "list of " + wire_type(inner[1], known)
    if inner := re.match(r"(?:BTreeMap|HashMap)<[^,]+, (.+)>$", rust) or re.match(r"Entries<,? ?(.+)>$", rust):
        return "map of " + wire_type(inner[1], known)
    if inner := re.match(r"\((.+)\)$", rust):
        return "list: " + ", ".join(wire_type(part, known) for part in inner[1].split(", "))
    name = re.sub(r"<.*>$", "", rust)
    if name in PLAIN:
        return PLAIN[name]
    return f"[{name}](#{name.lower()})" if name in known else "any"


def names_in(rust):
    """The type names in a Rust type."""
    return re.findall(r"\b[A-Z]\w+", rust)


def page():
    """The text of docs/rpc.md."""
    known, declared = {}, {}
    for path in sorted((ROOT / "crates/objects/src").glob("*.rs")):
        known |= types_of(path.read_text(encoding="utf-8"))
    parts, wanted = [HEAD], []
    for module in METHODS:
        text = (ROOT / f"crates/rpcapi/src/{module}.rs").read_text(encoding="utf-8")
        head = [line[3:].lstrip(" ") for line in text.splitlines() if line.startswith("//!")]
        own = {name: kind for name, kind in types_of(text).items() if not NOT_ON_THE_WIRE.search(name)}
        declared |= own
        wanted += names_in("\n".join(head)) + (list(own) if module != "nova_scheduler" else [])
        title = {"scheduler": "Schedulers", "compute": "Agents", "base": "Both", "nova_scheduler": "Nova's methods"}[module]
        body = re.sub(r"\[`([^`\]]+)`\](\([^)]*\))?", r"`\1`", "\n".join(head).strip())
        parts.append(f"## {title}\n\n{body}\n")
    known |= declared
    shown = {}
    while wanted:
        name = wanted.pop(0)
        if name in known and name not in shown:
            shown[name] = known[name]
            wanted += [inner for row in known[name].rows for inner in names_in(row[1])]
    parts.append("## Types\n")
    for name, kind in sorted(shown.items()):
        parts.append(f"### {name}\n\n{kind.doc}\n")
        if not kind.rows:
            continue
        if kind.kind == "enum" and not any(rust for _, rust, _, _ in kind.rows):
            rows = [f"| `{name}` | {doc} |" for name, _, doc, _ in kind.rows]
            parts.append("\n".join(["| value | meaning |", "|---|---|", *rows]) + "\n")
            continue
        rows = []
        for field, rust, doc, optional in kind.rows:
            told = wire_type(rust, shown) if rust else ""
            rows.append(f"| `{field}` | {told}{', optional' if optional else ''} | {doc} |")
        parts.append("\n".join(["| field | type | meaning |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def main():
    """Writes the page, or compares it."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/rpc.md is not up to date: run scripts/rpc_reference.py")


if __name__ == "__main__":
    main()
