"""Template snippets over everything that templates use: what compare.py renders with every engine. Variables are VARIABLES.
Each is a template of its own; the engines must agree on the text, or all refuse."""

VARIABLES = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Héllo, wörld 言葉 😀"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": [True, None, 1.5]}}}]},
        {"role": "tool", "content": "{\"x\": 1}", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d <b> & 'c' \"q\"",
                                                "parameters": {"type": "object", "properties": {
                                                    "b": {"type": "string", "enum": ["x", "y"]},
                                                    "a": {"type": ["integer", "null"]}}, "required": ["a"]}}}],
    "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1e20, "small": 1.5e-7, "t": True, "no": False, "none_": None,
    "s": "  padded\ttext \n", "e": "", "u": "straße ÉCOLE", "csv": "a,b,,c", "html": "<a href=\"x\">T&C's</a>",
    "words": ["pear", "Apple", "fig", "apple", "Fig"], "nums": [3, 1, 2, 3, -1], "floats": [0.1, 2.0, 1e16, 1e-5],
    "empty": [], "nested": [[1, [2, 3]], [4, [5]]], "d": {"b": 2, "a": 1, "C": 3}, "people": [
        {"name": "Ann", "age": 30, "home": {"city": "Köln"}}, {"name": "bob", "age": 25, "home": {"city": "Bonn"}},
        {"name": "Cid", "age": 30, "home": {"city": "köln"}}, {"name": "dee"}],
    "lines": "one\ntwo\n\nthree", "bos_token": "<s>", "add_generation_prompt": True,
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4
7 // 2, -7 // 2, 7 // -2, 7 % 3, -7 % 3, 7 % -3, 7.5 // 2, -7.5 % 2
2 ** 10, 2 ** -1, -2 ** 2, 2 ** 3 ** 2
1 / 2, 4 / 2, 1e3, 1.0, 1_000, 0x1f, 0b101, 0o17
10 / 3, 2 / 3, 0.1 + 0.2, 1e16, 1e15, 123456789012345678, 1.5e300, 1e-5, 0.0001
floats, floats[2] * 10, big, small, -0.0, f, f * 2
true + 1, True and 1, False or 'x', not none, none, None, true, false
t, no, none_, [t, no, none_], {'k': none_}
'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x'], 'a' + 'b', 'ab' * 3, [1] * 2, [1] + [2, 3], (1,) + (2,)
'%s-%d-%5.2f|%-5s|%05d|%x' % ('a', 3, 2.345, 'l', 42, 255)
'%s' % n, '%s %%' % 'x', '%(a)s' % {'a': 4}
n > 3, 1 < n < 10, 1 < n < 5, 'a' < 'b', [1, 2] < [1, 3], n == 7.0, n != 7, 'a' == 'a', none == none, 1 == true
'a' in 'abc', 'z' not in 'abc', 1 in nums, 'b' in d, 9 in (1, 2), 'x' in undefined_thing
n if n > 3 else 'small', 'x' if false, (1 if z else 2) + 1
nums[0], nums[-1], nums[1:3], nums[::-1], nums[::2], nums[-2:], nums[:-1], nums[5:], nums[99], nums[3:1]
u[0], u[-1], u[1:4], u[::-1], u[:3] ~ '|' ~ u[3:], 'abc'[10]
d.a, d['a'], d.zz, d['zz'], d.get('a'), d.get('q'), d.get('q', 5), messages[0].role
d | items | list, d.items() | list, d.keys() | list, d.values() | list, d | dictsort, d | dictsort(true), d | dictsort(by='value', reverse=true)
d.items(), d.keys(), d.values()
d | length, words | length, u | length, 'é' | length, '' | count, [] | length, '😀言' | length
words | first, words | last, empty | first, u | first, nums | max, nums | min, words | max, nums | sum, floats | sum
words | sort, words | sort(reverse=true), words | sort(case_sensitive=true), nums | sort, people | sort(attribute='name') | map(attribute='name') | list
words | unique | list, nums | unique | list, nums | reverse | list, 'abc' | reverse, words | join, words | join(', '), nums | join('-')
people | map(attribute='name') | join(','), people | map(attribute='home.city') | list, people | map(attribute='age', default=0) | list
people | selectattr('age') | map(attribute='name') | list, people | rejectattr('age') | map(attribute='name') | list
people | selectattr('age', 'equalto', 30) | list | length, people | selectattr('age', 'defined') | list | length
people | selectattr('name', 'in', ['Ann', 'Cid']) | map(attribute='name') | list
nums | select('odd') | list, nums | reject('odd') | list, nums | select('gt', 1) | list, nums | select | list, [0, 1, '', 'x'] | select | list
nums | map('string') | list, words | map('upper') | join(' '), nums | map('abs') | list, words | map('replace', 'p', 'P') | list, floats | map('round', 1) | list
people | groupby('age', default=0), people | groupby('age', default=0) | map(attribute='grouper') | list
nums | batch(2) | list, nums | batch(2, 0) | list, nums | slice(2) | list, nums | slice(2, 'x') | list
'a' is string, 1 is string, d is mapping, words is mapping, words is iterable, d is iterable, 1 is iterable, 'a' is iterable
words is sequence, d is sequence, 'a' is sequence, 1 is sequence, undefined_thing is sequence, undefined_thing is iterable
1 is number, 1.5 is number, t is number, '1' is number, 1 is integer, t is integer, 1.0 is integer, 1.0 is float, 1 is float
t is boolean, 1 is boolean, t is true, 1 is true, no is false, z is false, none_ is none, z is none, e is none
n is odd, n is even, n is divisibleby 7, n is divisibleby(2), z is even, neg is odd
n is defined, q is defined, q is not defined, d.q is defined, d.a is defined, none_ is defined, q is undefined, messages[0].x is defined
n is eq 7, n is ne(7), n is gt 3, n is lt 3, n is ge 7, n is le 6, n is equalto 7, 'a' is in 'abc', n is in nums, n is sameas n
'ABC' is upper, 'abc' is lower, 'Abc' is upper, '1' is upper, range is callable, n is callable, 'upper' is filter, 'odd' is test
s | trim, s.strip(), s.lstrip(), s.rstrip(), 'xxaxx'.strip('x'), 'xyaxy'.lstrip('xy'), 'xxaxx' | trim('x'), 'xay'.rstrip('y')
u.upper(), u.lower(), u.title(), u.capitalize(), u | upper, u | lower, u | title, u | capitalize, "it's o'clock" | title, "it's o'clock".title(), 'aB'.swapcase()
csv.split(','), csv.split(',', 1), csv.rsplit(',', 1), ' a  b '.split(), 'a b c'.split(' ', 1), 'a-b'.split('-')[1], ''.split(','), ''.split()
'a b c'.rsplit(none, 1), ' a b  c '.split(none, 1), lines.splitlines(), 'a\nb\n'.splitlines(), 'a=b=c'.partition('='), 'a=b=c'.rpartition('='), 'x'.partition('-')
'aXbX'.replace('X', '-'), 'aaa'.replace('a', 'b', 2), 'abc' | replace('b', 'x'), 'aaa' | replace('a', 'b', 1), 'ab'.replace('', '-')
'abc'.startswith('a'), 'abc'.endswith('bc'), 'abc'.startswith(('x', 'ab')), 'abc'.startswith('b', 1), 'abc'.find('c'), 'abc'.find('z'), 'abcabc'.rfind('b'), 'öbc'.find('c'), 'abcabc'.count('b'), 'abc'.index('b')
'12'.isdigit(), 'a1'.isdigit(), ''.isdigit(), 'ab'.isalpha(), 'a b'.isalpha(), ' '.isspace(), 'a1'.isalnum(), 'AB'.isupper(), 'ab'.islower()
','.join(words), ''.join(['a', 'b']), 'x'.join('abc'), 'a'.center(5), '7'.zfill(3), '-7'.zfill(4), 'a'.ljust(3) ~ '|', 'a'.rjust(3), 'ab'.center(5, '*')
'{} {}'.format(1, 'a'), '{0} {1} {0}'.format('x', 'y'), '{a}'.format(a=1), '{:>5}|{:<5}|{:^5}'.format('a', 'b', 'c'), '{:.2f}'.format(2.345), '{:05d}'.format(42), '{!r}'.format('a'), '{:,}'.format(1234567), '{{}}'.format(), '{:x}'.format(255), '{0[0]}'.format([5])
'prefix-x'.removeprefix('prefix-'), 'x.txt'.removesuffix('.txt'), 'ab'.removeprefix('q')
d | tojson, tools | tojson, u | tojson, none_ | tojson, t | tojson, floats | tojson, '"\\\n\t' | tojson, 'é😀' | tojson(ensure_ascii=true)
d | tojson(indent=2), nested | tojson(indent=4), d | tojson(sort_keys=true), d | tojson(separators=(',', ':')), [] | tojson(indent=2), {} | tojson(indent=2)
messages | tojson, messages[2].tool_calls[0].function.arguments | tojson(indent=2), {'a': {'b': []}} | tojson(indent=1), (1, 2) | tojson, {1: 2, none: 3, true: 4} | tojson
'5' | int, 'x' | int, 'x' | int(9), '3.7' | int, 3.9 | int, none_ | int, t | int, ' 12 ' | int, 'ff' | int(base=16), '0x1f' | int(0, 16), '1.5' | float, 'q' | float, 'q' | float(2.0), 3 | float, '1_0' | int
2.5 | round, 3.5 | round, 2.345 | round(2), 2.675 | round(2), 7 | round, 1234.5 | round(-2), 2.1 | round(method='ceil'), 2.9 | round(method='floor'), 42.55 | round(1, 'floor')
neg | abs, -2.5 | abs, 5 | string, 'a' | string, [1] | string, 1.0 | string
q | default('x'), q | d('x'), e | default('x'), e | default('x', true), none_ | default('x'), none_ | default('x', true), d.q | default([]), z | d(1, true), q | default
html | escape, html | e, html | safe, html | striptags, (html | safe) ~ '<', '<' ~ (html | escape), html | forceescape, ('<b>' | safe) + '<', 'x' | escape is escaped
'a b/c?d=é' | urlencode, {'a': 1, 'b c': 'é/'} | urlencode, 'one two  three' | wordcount, 'abc' | center(9), 'a b c d e f' | truncate(5), 'a b c d e f g h' | truncate(5, true), 'abcdefghij' | truncate(6, true, '..', 0)
lines | indent, lines | indent(2), lines | indent(2, true), lines | indent(2, first=true, blank=true), lines | indent('> ', true), lines | indent(width=1)
1000 | filesizeformat, 1500000 | filesizeformat, 1024 | filesizeformat(true), 1 | filesizeformat
range(5) | list, range(2, 5) | list, range(5, 0, -2) | list, range(3), range(0), range(3)[1], 2 in range(3), range(3) | length, range(5)[1:3] | list
dict(a=1, b='x'), dict([('k', 'v')]), dict(d, z=9), {}, {'a': 1}['a'], {1: 'one'}[1], [], (), (1,), (1, 2), [[], {}, ()]
'\x41\u00e9\n\t\'"\\', "dq 'in' \"x\"", 'a' 'b', 'q\q', ['a\nb', "it's", 'say "x"', "b'o\"th"], ['é', '\u200b', '\x7f', '😀']
strftime_now('%Y-%m-%d'), strftime_now('%d %b %Y'), strftime_now('%B %d, %Y %H:%M')
messages[1].content | length, messages[1]['content'][0:5], messages[-1].content[0].text, messages[-1]['content'][1]['type'], messages[2].content is none
messages | map(attribute='role') | list, messages | selectattr('role', 'equalto', 'user') | list | length, (messages | selectattr('role', 'ne', 'system') | list)[0].role
messages | length > 2 and messages[0]['role'] == 'system', not messages[9] is defined, messages[0].content is string and messages[0].content | length > 3
namespace(a=1).a, namespace(a=1).b is defined, loop is defined, none_ is none and true
(nums | sort)[0], nums | sort | first, nums | map('string') | join('+') | length, [nums, words] | map('length') | list, [[1, 2], [3]] | sum(start=[]), people | sum(attribute='age', start=0) if false else 0
d.a + d.b, (d.a, d.b) | max, [1, 2.5] | max, ['b', 'A'] | min, ['b', 'A'] | min(case_sensitive=true), people[:3] | max(attribute='age')
nested[0][1][0], nested[1][1] | first, nested | map('last') | list, nested | map(attribute=0) | list, nested | map(attribute='1.0') | list
n | attr('realx') is defined, d | attr('a') is defined, 'a' | attr('upper') is defined, none_.x is defined, (5).x is defined
e or 'fallback', n and 'yes', [] or {} or 'z', 0 or none_, 'a' and '', not (1 and 0), 1 and 2 or 3
1 if 0 else 2 if 0 else 3, (1, 2)[0], [1, 2][-1], {'a': [1, {'b': 2}]}.a[1].b, 'x'.upper().lower().title()
-1 | abs, -n, +n, --n, -f, not not n, -n | abs, 3 - -2
'a' 'b' ~ 'c' | upper, 'a' ~ 'b' | upper, 1 + 2 | string | length, 1 ~ 2 * 3
'abc' | list, d | list, 'a-b' | replace('-', '') | upper | lower, words | list | length
words.index('fig'), nums.count(3), (1, 2, 2).count(2), words | sort(attribute='0') | list, people | map(attribute='name') | map('lower') | sort | list
'abc' == 'abc', [1, 2] == [1, 2], (1, 2) == [1, 2], {'a': 1} == {'a': 1.0}, d == {'a': 1, 'b': 2, 'C': 3}, 'a' != 1, [none] == [none_]
"ß".upper(), 'ǆ'.title(), 'ÿ'.upper(), 'İ'.lower(), 'ΑΒΓ'.lower(), 'ﬁ'.upper()
""".strip().splitlines()

# expressions of which at least Jinja2 says that they are wrong
REFUSED = r"""
{{ q.x }}
{{ q + 1 }}
{{ q['x'] }}
{{ q() }}
{{ d.a.b.c }}
{{ 1 + 'a' }}
{{ 'a' + 1 }}
{{ none + 1 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 'a' < 1 }}
{{ none < 1 }}
{{ q < 1 }}
{{ n() }}
{{ 'a' | nofilter }}
{{ 'a' is notest }}
{{ 1 in 5 }}
{{ 1 in 'abc' }}
{{ 5 | length }}
{{ 5 | list }}
{{ none | list }}
{% for x in 5 %}{% endfor %}
{% for x in none %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% set a, b = 1 %}
{% set d.x = 1 %}
{{ raise_exception('no') }}
{{ q | tojson }}
{{ '%d' % 'x' }}
{{ '%s %s' % 'x' }}
{{ '{}'.format() }}
{{ '{a}'.format() }}
{{ range(1000000000000) }}
{{ {[]: 1} }}
{{ words[1:2:0] }}
{{ 'a'.split('') }}
{{ 'abc'.index('z') }}
{{ words.index('zz') }}
{{ 'a' | round }}
{{ 'a' | abs }}
{{ [1, 'a'] | sort }}
{{ [1, 'a'] | sum }}
{{ [1, none] | max }}
{{ d | sort(attribute='x', bogus=1) }}
{{ 'a' | replace('a') }}
{{ 'a' | upper(1) }}
{{ 'a'.upper(1) }}
{% if %}x{% endif %}
{% if 1 %}x
{% for x in nums %}x
{% endfor %}
{% else %}
{% nothing %}
{{ 1 + }}
{{ (1 }}
{{ 1 ) }}
{{ [1 }}
{{ {'a' 1} }}
{{ 'abc }}
{{ a b }}
{{ }}
{# open
{{ 1
{% raw %}x
{% set %}
{% set x %}y
{% macro %}{% endmacro %}
{% macro m(a, a2=1, b) %}{% endmacro %}
{% call 5 %}{% endcall %}
{% break %}
{% include 'x' %}
{% extends 'x' %}
{{ 1 | }}
{{ 1 is }}
{{ x. }}
{{ 1 is odd is even }}
{{ f(a=1, 2) }}
{{ "a" ** 2 }}
{{ -'a' }}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}
{% for x in nums %}{{ loop(nums) }}{% endfor %}
""".strip("\n").splitlines()

TEMPLATES = [
    # white space around tags
    "a {% if t %} b {% endif %} c", "a\n{% if t %}\nb\n{% endif %}\nc\n", "a\n  {% if t %}\n  b\n  {% endif %}\nc",
    "a {%- if t -%} b {%- endif -%} c", "a\n\n  {{- n -}}  \n\nb", "  {{ n }}\n  {{ n }}\n", "x\n{# c #}\ny", "x {#- c -#} y",
    "x\n  {# c #}\n  y", "a\n {%+ if t %}\nb{% endif +%}\nc", "a{% if t +%}\nb{% endif %}", "\n\n{{ n }}\n\n", "{{ n }}\n", "{{ n }}\n\n",
    "{% set x = 1 %}\n{% set y = 2 %}\n{{ x + y }}\n", "   {% set x = 1 %}   \n{{ x }}", "a\r\nb\r\n{% if t %}\r\nc{% endif %}\rd",
    "{% raw %}{{ x }} {% if %}{% endraw %}", "a\n  {% raw %}\n {{ x }}\n  {% endraw %}\nb", "{%- raw -%}  a  {%- endraw -%} b", "{{ '{{' }} {{ '}}' }} {{ {'a': {'b': 1}}.a.b }}",
    "{{'%}'}}{{ \"}}\" }}", "{ { } } {x} {%% }", "\t{% if t %}\tb\t{% endif %}\t\nc", "{{ n -}}\n\n  x", "{{- n }}", "  {{- n }}", "x{{+ n }}",
    "{% if t %}\n\n  x\n\n{% endif %}\n\ny", "{% for x in nums %}\n{{ x }}\n{% endfor %}\n", "{% for x in nums -%}\n{{ x }}\n{%- endfor %}\n", "a\n{# x #}  \n{# y #}\nb",
    # if
    "{% if z %}a{% elif n > 5 %}b{% else %}c{% endif %}", "{% if z %}a{% elif none_ %}b{% elif e %}c{% else %}d{% endif %}", "{% if not z and (n or q) %}y{% endif %}",
    "{% if d %}1{% endif %}{% if empty %}2{% endif %}{% if none_ %}3{% endif %}{% if q %}4{% endif %}{% if 0.0 %}5{% endif %}{% if ' ' %}6{% endif %}",
    "{% if words | select('equalto', 'zz') %}gen{% endif %}", "{% if 'a' in words or 'fig' in words %}y{% endif %}", "{% if n is defined and n is not none %}y{% endif %}",
    # for
    "{% for x in nums %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}",
    "{% for x in nums %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in empty %}x{% else %}none{% endfor %}", "{% for x in nums %}x{% else %}none{% endfor %}",
    "{% for x in nums if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}", "{% for x in nums if x > 100 %}x{% else %}e{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in 'héy' %}[{{ c }}]{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for x in nums %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in nums %}{% if x == 3 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in nums %}{% for y in nums %}{% if y == 1 %}{% break %}{% endif %}{{ loop.index }}{% endfor %};{{ loop.index }}{% endfor %}",
    "{% for x in nums %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in nums | sort %}{{ loop.changed(x) }}{% endfor %}", "{% for x in q %}x{% else %}u{% endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in range(3) | reverse %}{{ x }}{% endfor %}",
    "{% for x in nested recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}", "{% for i in nums %}{{ loop.last }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% set x = 0 %}{% for i in nums %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "{% set ns = namespace(x=0) %}{% for i in nums %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% for i in nums %}{% set y = i %}{% endfor %}{{ y is defined }}",
    "{% set ns = namespace(found=false) %}{% for i in nums if not ns.found %}{{ i }}{% if i == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}", "{% for m in messages %}{{ m.role }}{% endfor %}{% for m in messages[1:] %}{{ loop.index0 }}{% endfor %}",
    "{% for x in nums %}{{ loop.index }}{% endfor %}{{ loop is defined }}", "{% for x, y in [[1, 2], [3, 4]] %}{{ x * y }} {% endfor %}", "{% for x in (1, 2) %}{{ x }}{% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}",
    "{% for g in people[:3] | groupby('age') %}{{ g.grouper }}:{% for p in g.list %}{{ p.name }},{% endfor %};{% endfor %}", "{% for a, l in people[:3] | groupby('age') %}{{ a }}{{ l | length }}{% endfor %}", "{% for r in nums | batch(3, 0) %}{{ r | join('.') }};{% endfor %}",
    # set
    "{% set a = 1 %}{% set b = a + 1 %}{{ b }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{{ n }}{% endset %}{{ a }}{{ a | length }}", "{% set a | upper %}xyz{% endset %}{{ a }}", "{% set a | replace('x', 'y') | upper %}xyz{% endset %}{{ a }}",
    "{% if t %}{% set v = 5 %}{% endif %}{{ v }}", "{% if z %}{% set v = 5 %}{% endif %}{{ v is defined }}", "{% set n = n + 1 %}{{ n }}", "{% set (a, b) = (1, 2) %}{{ a + b }}", "{% set ns = namespace(a=1) %}{% set ns.b = ns.a + 1 %}{{ ns.b }}{{ ns.c is defined }}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }}",
    "{% set ns = namespace() %}{% set ns.a %}body{% endset %}{{ ns.a }}", "{% set x = [] %}{% set x = x + [1] %}{% set x = x + [2] %}{{ x }}", "{% set m = messages[0] %}{{ m.content }}", "{% set x = 'a' if t else 'b' %}{{ x }}", "{% set x = {'a': 1, **{}} %}{{ x }}",
    # macros
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m() }}", "{% macro m(a) %}[{{ a }}]{% endmacro %}{% set x = m('q') %}{{ x }}{{ x | length }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
    "{% macro m(a) %}{{ a }}{{ caller() }}{% endmacro %}{% call m('x') %}body{{ n }}{% endcall %}", "{% macro m() %}{{ caller('p') }}{% endmacro %}{% call(v) m() %}<{{ v }}>{% endcall %}", "{% macro fact(k) %}{% if k <= 1 %}1{% else %}{{ k * (fact(k - 1) | int) }}{% endif %}{% endmacro %}{{ fact(6) }}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}", "{% set x = 1 %}{% macro m() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}", "{% for i in nums[:2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}", "{% macro m(x) -%}\n  {{ x }}\n{%- endmacro %}<{{ m(1) }}>", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}", "{% macro m(x=none) %}{{ x is none }}{% endmacro %}{{ m() }}{{ m(1) }}{{ m.name }}", "{% macro m(x) %}{{ x is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ n }}{% endmacro %}{% for n in nums %}{{ m() }}{% endfor %}", "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}",
    # other blocks
    "{% filter upper %}abc{{ u }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aaa{% endfilter %}", "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}", "{% with %}{% set q2 = 1 %}{{ q2 }}{% endwith %}{{ q2 is defined }}", "{% generation %}x{% set y = 1 %}{% endgeneration %}{{ y is defined }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{% set j = joiner('|') %}{{ j() }}a{{ j() }}b{{ j() }}c", "{{ nums | map('string') | join }}{% set it = nums | map('string') %}{{ it | join }}{{ it | join }}",
    # as real templates do it
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + (m['content'] if m['content'] is string else 'list') + ' [/INST]' }}{% endif %}{% endfor %}",
    "{%- for tool in tools %}\n{{- tool | tojson }}\n{%- endfor %}\n", "{%- if messages[0].role == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n{%- endif %}", "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' }}{{ m.content if m.content is string }}{% endfor %}",
    "{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{{ index }}{% endfor %}", "{% set content = '<think>a</think>b' %}{{ content.split('</think>')[-1].lstrip('\\n') }}{{ content.split('</think>')[0].split('<think>')[-1] }}",
    "{% for k, v in tools[0].function.parameters.properties | items %}{{ k }}:{{ v.type if v.type is string else v.type | join('|') }};{% endfor %}", "{% for k, v in tools[0].function.parameters.properties.items() %}{{ k }}{{ ', required' if k in tools[0].function.parameters.required }};{% endfor %}",
    "{% if tools is defined and tools %}{{ tools[0]['function'] | tojson(indent=4) }}{% endif %}", "{% if (messages | last).role == 'user' %}u{% endif %}{{ messages | map(attribute='role') | join(' ') }}", "{{ messages[2]['tool_calls'][0]['function']['arguments'] | tojson }}{{ messages[2].tool_calls[0].function.arguments.items() | list }}",
    "{% set ns = namespace(is_first=true, last='') %}{% for m in messages %}{% if ns.is_first %}{% set ns.is_first = false %}{% else %}{{ ns.last }}>{% endif %}{% set ns.last = m.role %}{% endfor %}", "{{ strftime_now('%d %B %Y') if strftime_now is defined else 'x' }}", "{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}A:{% endif %}",
    "{% for c in messages[-1].content %}{% if c.type == 'text' %}{{ c.text }}{% elif c['type'] == 'image' or 'image' in c %}<img>{% endif %}{% endfor %}", "{% set loop_messages = messages[1:] if messages[0].role == 'system' else messages %}{{ loop_messages | length }}", "{{ 'x' if enable_thinking is defined and enable_thinking is false else 'y' }}",
    "{{- 'a' -}}\n{{- 'b' -}}", "{{ {'a': 1} | tojson }}{{ '{' }}{{ '}' }}", "{%- macro r(x, req, nullable=false) -%}{%- if x.type == 'string' -%}s{%- elif x.type is iterable and x.type is not string -%}{{ x.type | join(' | ') }}{%- endif -%}{%- endmacro -%}{% for k, v in tools[0].function.parameters.properties.items() %}{{ k }}: {{ r(v, []) }}\n{% endfor %}",
]
