"""All scenarios, in the order of the tables."""

from . import http

ALL = [*http.ALL]
