"""A deployment's vendor row, merged into what the file says of the deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semroute.config.problem import did_you_mean
from semroute.config.values import bad_value
from semroute.config.vendors import UNNAMED, VENDORS


def with_vendor_row(said: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Format, address and key of the vendor, under what the deployment itself says.

    Args:
        said: the deployment's keys as they are in the file, without those that have no value.

    Raises:
        PydanticCustomError: the provider is not known, has no address of its own where none is given, or speaks another
            format than the one given.
    """
    provider, format = said.get("provider"), said.get("format")
    if provider is None:
        row = UNNAMED.get(format) if isinstance(format, str) else None
        return said if row is None else {"base_url": VENDORS[row].base_url, **said}
    if not isinstance(provider, str):
        return said
    vendor = VENDORS.get(provider)
    if vendor is None:
        hint = did_you_mean(provider, VENDORS) or f"use one of {', '.join(VENDORS)}"
        raise bad_value("no such provider", f"{hint} A server without a row takes format and base_url", key="provider")
    if format not in (None, vendor.format):
        message = f'provider "{provider}" speaks the format "{vendor.format}"'
        raise bad_value(message, "leave format out", key="format")
    if vendor.base_url is None and "base_url" not in said:
        message = f'is missing: provider "{provider}" has no address that all its users share'
        raise bad_value(message, "add your own address there", key="base_url")
    filled = {"format": vendor.format, "base_url": vendor.base_url, "api_key_env": vendor.api_key_env}
    return {**{key: value for key, value in filled.items() if value is not None}, **said}
