"""Prints VAT numbers with the verdict of python-stdnum, one a line. Arguments: how many of each prefix, and a seed."""
import importlib
import random
import string
import sys

MODULES = {
    'AT': 'at.uid', 'BE': 'be.vat', 'BG': 'bg.vat', 'CY': 'cy.vat', 'CZ': 'cz.dic', 'DE': 'de.vat', 'DK': 'dk.cvr', 'EE': 'ee.kmkr',
    'EL': 'gr.vat', 'ES': 'es.nif', 'FI': 'fi.alv', 'FR': 'fr.tva', 'HR': 'hr.oib', 'HU': 'hu.anum', 'IE': 'ie.vat', 'IT': 'it.iva',
    'LT': 'lt.pvm', 'LU': 'lu.tva', 'LV': 'lv.pvn', 'MT': 'mt.vat', 'NL': 'nl.btw', 'PL': 'pl.nip', 'PT': 'pt.nif', 'RO': 'ro.cf',
    'SE': 'se.vat', 'SI': 'si.ddv', 'SK': 'sk.dph', 'XI': 'gb.vat',
}


def digits(count):
    return ''.join(random.choices(string.digits, k=count))


def letter(letters=string.ascii_uppercase):
    return random.choice(letters)


def day():
    return f'{random.randint(0, 31):02d}'


def birth_number(rest):
    return digits(2) + random.choice(['01', '12', '21', '32', '51', '62', '71', '82', '99']) + day() + digits(rest)


# Shapes that the country has, and some beside them. Where few numbers of a shape are valid, it is narrow.
SHAPES = {
    'AT': [lambda: 'U' + digits(8)],
    'BE': [lambda: letter('01') + digits(9)],
    'BG': [lambda: digits(9), lambda: digits(10), lambda: birth_number(4)],
    'CY': [lambda: digits(8) + letter()],
    'CZ': [lambda: digits(8), lambda: '6' + digits(8), lambda: birth_number(3), lambda: birth_number(4)],
    'DE': [lambda: digits(9)],
    'DK': [lambda: digits(8)],
    'EE': [lambda: digits(9)],
    'EL': [lambda: digits(9)],
    'ES': [lambda: letter(string.ascii_uppercase + string.digits) + digits(7) + letter(string.ascii_uppercase + string.digits)],
    'FI': [lambda: digits(8)],
    'FR': [lambda: digits(11), lambda: letter() + digits(10), lambda: digits(1) + letter() + digits(9), lambda: digits(2) + '000' + digits(6)],
    'HR': [lambda: digits(11)],
    'HU': [lambda: digits(8)],
    'IE': [
        lambda: digits(7) + letter(), lambda: digits(7) + letter() + letter('ABHW'),
        lambda: digits(1) + letter(string.ascii_uppercase + '+*') + digits(5) + letter(),
    ],
    'IT': [lambda: digits(7) + f'{random.randint(0, 125):03d}' + digits(1), lambda: digits(7) + letter('89') * 3 + digits(1)],
    'LT': [lambda: digits(7) + '1' + digits(1), lambda: digits(10) + '1' + digits(1)],
    'LU': [lambda: digits(8)],
    'LV': [
        lambda: digits(11),
        lambda: f'{random.randint(0, 32):02d}{random.randint(0, 13):02d}' + digits(2) + letter('012') + digits(4),
    ],
    'MT': [lambda: digits(8)],
    'NL': [lambda: digits(9) + 'B' + digits(2)],
    'PL': [lambda: digits(10)],
    'PT': [lambda: digits(9)],
    'RO': [lambda: digits(random.randint(2, 10)), lambda: digits(3) + f'{random.randint(0, 13):02d}' + day() + digits(6)],
    'SE': [lambda: digits(10) + '01'],
    'SI': [lambda: digits(8)],
    'SK': [lambda: digits(10), lambda: birth_number(4)],
    'XI': [lambda: digits(9), lambda: digits(12), lambda: 'GD' + digits(3), lambda: 'HA' + digits(3)],
}

count, seed = int(sys.argv[1]), sys.argv[2]
random.seed(seed)
for prefix, shapes in SHAPES.items():
    module = importlib.import_module('stdnum.' + MODULES[prefix])
    found = {True: [], False: []}
    # Half of them are valid ones, which are looked for.
    while min(len(numbers) for numbers in found.values()) < count // 2:
        number = random.choice(shapes)()
        found[module.is_valid(number)].append(number)
    for valid, numbers in found.items():
        for number in numbers[: count // 2]:
            print(prefix + number, 'valid' if valid else 'invalid')
