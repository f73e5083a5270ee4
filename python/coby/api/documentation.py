"""A page that shows the API without loading anything from anywhere: neither scripts nor styles of others."""

import html
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

OPENAPI_PATH = "/api/v1/openapi.json"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = """
:root { color-scheme: light dark } body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
padding: 0 1rem } code, .path { font-family: ui-monospace, monospace } .path { font-weight: 600 }
section { border-top: 1px solid #8886; padding: .6rem 0 } table { border-collapse: collapse } td, th { text-align: left;
padding: .1rem 1rem .1rem 0; vertical-align: top } pre { overflow: auto } summary { cursor: pointer }
"""


def router(app: FastAPI) -> APIRouter:
    """The route of the page."""
    routes = APIRouter()

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()), headers={"Content-Security-Policy": _POLICY})

    return routes


def page(description: Mapping[str, Any]) -> str:
    """The page of an OpenAPI description."""
    about = description["info"]
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(about['title'])}</title>"
        f"<style>{_STYLE}</style><h1>{_text(about['title'])} {_text(about['version'])}</h1>"
        f"<p>{_text(about.get('description', ''))}</p>"
        f'<p>For programs: <a href="{OPENAPI_PATH}">{OPENAPI_PATH}</a></p>'
    )
    parts = [head]
    for path, operations in description["paths"].items():
        parts += [_operation(path, method, told) for method, told in operations.items()]
    parts.append("<h2>Shapes</h2>")
    schemas = description.get("components", {}).get("schemas", {})
    parts += [_shape(name, told) for name, told in sorted(schemas.items())]
    return "".join(parts)


def _operation(path: str, method: str, told: Mapping[str, Any]) -> str:
    shown = _text(path)
    if "{" not in path and method == "get":
        shown = f'<a href="{shown}">{shown}</a>'
    rows = "".join(
        f"<tr><td><code>{_text(item['name'])}</code><td>{_text(_kind(item['schema']))}"
        f"<td>{_text(item.get('description', ''))}"
        for item in told.get("parameters", ())
    )
    table = f"<table><tr><th>parameter<th>type<th>{rows}</table>" if rows else ""
    return (
        f"<section><p class=path>{method.upper()} {shown}<p>{_text(told.get('description', ''))}{table}"
        f"<p>Answers {_answers(told)}</section>"
    )


def _answers(told: Mapping[str, Any]) -> str:
    found = []
    for status, answer in told["responses"].items():
        for media_type, content in answer.get("content", {}).items():
            found.append(f"{status} <code>{_text(media_type)}</code> {_link(content.get('schema', {}))}".strip())
    return "; ".join(found)


def _shape(name: str, told: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{_text(field)}</code><td>{_link(schema) or _text(_kind(schema))}"
        f"<td>{_text(schema.get('description', ''))}"
        for field, schema in told.get("properties", {}).items()
    )
    return (
        f'<details id="{_text(name)}" open><summary class=path>{_text(name)}</summary>'
        f"<p>{_text(told.get('description', ''))}<table>{rows}</table></details>"
    )


def _link(schema: Mapping[str, Any]) -> str:
    target = schema.get("$ref") or schema.get("items", {}).get("$ref")
    if target is None:
        return ""
    name = _text(target.rsplit("/", 1)[-1])
    return f'{"list of " if "items" in schema else ""}<a href="#{name}">{name}</a>'


def _kind(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    kind = str(schema.get("type", schema.get("const", "any")))
    limits = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    default = [f"default {schema['default']}"] if schema.get("default") is not None else []
    return ", ".join([kind, *limits, *default])


def _text(value: object) -> str:
    return html.escape(str(value))
