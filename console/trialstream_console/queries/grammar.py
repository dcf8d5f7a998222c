"""The grammar of the query language, and its parser.

A word is anything without spaces and delimiters; its place says whether it is a path, a value or a text. So a value
needs quotes only if it has spaces or delimiters, or is a keyword. The parser is LALR(1), and works without recursion.
"""

from __future__ import annotations

import functools
from typing import Any

import lark

__all__ = ["NAMES", "new_parser"]

_GRAMMAR = r"""
?start: disjunction

?disjunction: conjunction (OR conjunction)*
?conjunction: negation (AND negation)*
?negation: NOT negation   -> negated
         | atom
?atom: LPAR disjunction RPAR  -> group
     | WORD COMPARE value     -> comparison
     | WORD CONTAINS value    -> comparison
     | WORD MATCH pattern     -> match
     | WORD (IN | NOT_IN) LPAR value (COMMA value)* RPAR  -> member
     | WORD EXISTS            -> exists
     | HAS WORD               -> has
     | LOST                   -> lost
     | WORD                   -> word
     | QUOTED                 -> quoted
value: WORD
     | WORD AGO
     | QUOTED
pattern: WORD
       | QUOTED

AND.2: /and(?![^\s()"',=<>!~])/i
OR.2: /or(?![^\s()"',=<>!~])/i
NOT_IN.3: /not\s+in(?![^\s()"',=<>!~])/i
NOT.2: /not(?![^\s()"',=<>!~])/i
IN.2: /in(?![^\s()"',=<>!~])/i
HAS.2: /has(?![^\s()"',=<>!~])/i
EXISTS.2: /exists(?![^\s()"',=<>!~])/i
CONTAINS.2: /contains(?![^\s()"',=<>!~])/i
LOST.2: /lost(?![^\s()"',=<>!~])/i
AGO.2: /ago(?![^\s()"',=<>!~])/i

MATCH: "~" | "!~"
COMPARE: "==" | "=" | "!=" | "<=" | "<" | ">=" | ">"
LPAR: "("
RPAR: ")"
COMMA: ","
QUOTED: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
WORD: /(?:[^\s()"',=<>!~\\.]|\\.|\.(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')?)+/s

%ignore /\s+/
"""

NAMES = {
    "WORD": "a word",
    "QUOTED": "a quoted text",
    "COMPARE": "= != < <= > >=",
    "MATCH": "~ !~",
    "IN": "'in'",
    "NOT_IN": "'not in'",
    "CONTAINS": "'contains'",
    "EXISTS": "'exists'",
    "HAS": "'has'",
    "LOST": "'lost'",
    "AGO": "'ago'",
    "NOT": "'not'",
    "AND": "'and'",
    "OR": "'or'",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "a comma",
    "$END": "the end of the text",
}
"""The tokens as messages name them, in the order in which they do."""


@functools.cache
def new_parser(transformer: lark.Transformer[lark.Token, Any]) -> lark.Lark:
    """Return the parser of a transformer, whose methods are called for each rule that was read.

    Args:
        transformer: The transformer.
    """
    return lark.Lark(_GRAMMAR, parser="lalr", lexer="basic", transformer=transformer, maybe_placeholders=False)
