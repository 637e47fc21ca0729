"""Makes a gzip stream of its plain bytes and its recipe. docs/format/gzip-recipe.md.

Written from docs/format alone; it shares no code with the program that it checks.
"""

from __future__ import annotations

from collections.abc import Iterator

from primitives import Damaged, Reader, Unsupported

HEAD_MAX, STORED_MAX, TOKENS_MAX, HEAD_BITS_MAX, PIECE_MAX = 16_384, 65_535, 262_144, 4_495, 65_536
COPY_MAX, COPY_MIN, FAR = 258, 3, 32_768
EMPTY = -(1 << 40)
"""A position in a table that nothing is near."""

# RFC 1951, 3.2.5: the first length or distance of each symbol, and its extra bits.
LENGTH_BITS = [0] * 8 + [bits for bits in range(1, 6) for _ in range(4)] + [0]
LENGTHS = [3 + sum(1 << bits for bits in LENGTH_BITS[:symbol]) for symbol in range(28)] + [258]
DISTANCE_BITS = [max(0, symbol // 2 - 1) for symbol in range(30)]
DISTANCES = [1 + sum(1 << bits for bits in DISTANCE_BITS[:symbol]) for symbol in range(30)]
HEAD_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
END = 256

Token = tuple[int, int] | None
"""Length and distance of a copy; None is a literal."""


def same(plain: bytes, one: int, other: int, most: int) -> int:
    count = 0
    while count < most and plain[one + count] == plain[other + count]:
        count += 1
    return count


class Go16:
    """Predictor 1: Go 1.7 to 1.26."""

    def __init__(self, plain: bytes) -> None:
        self.plain, self.before, last = plain, [], {}
        for at in range(len(plain) - 3):
            code = int.from_bytes(plain[at : at + 4], "big") * 0x1E35A7BD % (1 << 32) >> 15
            self.before.append(last.get(code, EMPTY))
            last[code] = at

    def reach(self, at: int) -> int:
        if at < 65_275:
            return min(at, FAR)
        reach = (at - 65_275) % FAR + 32_507
        return FAR if reach >= FAR or len(self.plain) <= at - reach + FAR else reach

    def match(self, at: int) -> Token:
        left = len(self.plain) - at
        if left < 4:
            return None
        longest = min(COPY_MAX, left)
        nice, best, found, reach = min(128, longest), 3, None, self.reach(at)
        candidate = self.before[at]
        for _ in range(128):
            distance = at - candidate
            if distance > reach:
                break
            length = same(self.plain, candidate, at, longest)
            if length > best and (length > 4 or distance <= 4096):
                best, found = length, (length, distance)
                if length >= nice:
                    break
            candidate = self.before[candidate]
        return found

    def token(self, at: int) -> Token:
        found = self.match(at)
        if found and found[0] < 16:
            after = self.match(at + 1)
            if after and after[0] > found[0]:
                return None
        return found


class Go127:
    """Predictor 2: Go 1.27."""

    PIECE = 65_535

    def __init__(self, plain: bytes) -> None:
        self.plain, self.planned = plain, {}
        self.short, self.long = [EMPTY] * 32_768, [(EMPTY, EMPTY)] * 32_768
        self.distance = 1
        for begin in range(0, len(plain), self.PIECE):
            self.piece(begin, min(begin + self.PIECE, len(plain)))

    def token(self, at: int) -> Token:
        return self.planned.get(at)

    def eight(self, at: int) -> int:
        return int.from_bytes(self.plain[at : at + 8], "little")

    @staticmethod
    def in_short(eight: int) -> int:
        return eight % (1 << 32) * 2_654_435_761 % (1 << 32) >> 17

    @staticmethod
    def in_long(eight: int) -> int:
        return (eight << 8) * 58_295_818_150_454_627 % (1 << 64) >> 49

    def enter_long(self, at: int, eight: int) -> None:
        entry = self.in_long(eight)
        self.long[entry] = at, self.long[entry][0]

    def enter(self, at: int) -> None:
        eight = self.eight(at)
        self.short[self.in_short(eight)] = at
        self.enter_long(at, eight)

    def agrees(self, early: int, at: int) -> bool:
        return at - early < FAR and self.plain[early : early + 4] == self.plain[at : at + 4]

    def piece(self, begin: int, end: int) -> None:
        self.end, self.distance = end, 1
        if end - begin < 128:
            return
        copies: dict[int, Token] = {}
        at = done = begin
        while (step := self.step(at, done)) is not None:
            if isinstance(step, int):
                at = step
                continue
            at, done = self.plan(step, done, copies)
            if at < 0:
                break
        covered = sum(length for length, _ in copies.values())
        tokens = end - begin - covered + len(copies)
        if tokens <= end - begin - (end - begin) // 16:
            self.planned.update(copies)

    def step(self, at: int, done: int):
        """Steps 1 to 3: None at the end, the next position, or a match: its place, where it is from, its length, `next`."""
        following = at + 1 + (at - done) // 128
        if following > self.end - 11:
            return None
        eight = self.eight(at)
        near, (last, before) = self.short[self.in_short(eight)], self.long[self.in_long(eight)]
        self.enter(at)

        def length(early: int, place: int) -> int:
            return same(self.plain, early, place, min(COPY_MAX, self.end - place))

        found = None
        if self.agrees(last, at):
            found = last, None
            if self.agrees(before, at):
                found = max((length(last, at), last), (length(before, at), before), key=lambda pair: pair[0])[::-1]
        elif self.agrees(before, at):
            found = before, None
        if found:
            self.enter(following)
            return at, *found, following
        if not self.agrees(near, at):
            return following
        place, early, best = at, near, length(near, at)
        kept = self.long[self.in_long(self.eight(following))]
        self.enter(following)
        repeated = at + 1 - self.distance
        if self.plain[repeated : repeated + 4] == self.plain[at + 1 : at + 5] and length(repeated, at + 1) > best:
            place, early, best = at + 1, repeated, length(repeated, at + 1)
        elif following - kept[0] < FAR:
            for other in kept:
                if self.agrees(other, following) and length(other, following) > best:
                    place, early, best = following, other, length(other, following)
        return place, early, best, following

    def plan(self, found, done: int, copies: dict[int, Token]) -> tuple[int, int]:
        """Steps 4 to 6: the next position, or -1 at the end, and how far copies are planned."""
        at, early, best, following = found
        limit = self.end - 11
        if best in (None, COPY_MAX):
            best = same(self.plain, early, at, self.end - at)
        if at + best < limit:
            later = at + 2
            for position in self.long[self.in_long(self.eight(at + best))]:
                other = position - best + 2
                if later - other >= FAR:
                    break
                if later - other >= 1 and other >= 0:
                    length = same(self.plain, other, later, self.end - later)
                    if length > best:
                        at, early, best = later, other, length
        while early > 0 and at > done and self.plain[early - 1] == self.plain[at - 1]:
            at, early, best = at - 1, early - 1, best + 1
        self.distance, place, left = at - early, at, best
        while left > 0:
            length = 258 if left > 261 else 255 if left > 258 else left
            copies[place] = length, self.distance
            place, left = place + length, left - length
        done = place
        at = max(done, following + 1)
        if at >= limit:
            for position in range(following + 1, self.end - 8, 2):
                self.enter(position)
            return -1, done
        for position in range(following + 1, at - 1, 2):
            self.enter(position)
            self.enter_long(position + 1, self.eight(position) >> 8)
        return at, done


class Bits:
    """A stream of bits, the lowest of a byte first."""

    def __init__(self, begin: bytes) -> None:
        self.done, self.open, self.count = bytearray(begin), 0, 0

    def put(self, value: int, count: int) -> None:
        self.open |= value << self.count
        self.count += count
        while self.count >= 8:
            self.done.append(self.open & 0xFF)
            self.open, self.count = self.open >> 8, self.count - 8

    def code(self, code: tuple[int, int]) -> None:
        """A Huffman code, whose highest bit comes first."""
        value, count = code
        self.put(int(f"{value:0{count}b}"[::-1], 2), count)


def codes(lengths: list[int]) -> dict[int, tuple[int, int]]:
    """RFC 1951, 3.2.2."""
    found, code = {}, 0
    for length in range(1, 16):
        code <<= 1
        for symbol, own in enumerate(lengths):
            if own == length:
                if code >> length:
                    raise Damaged("lengths of codes take more than there is")
                found[symbol] = code, length
                code += 1
    return found


def optimal(counts: list[int], limit: int) -> list[int]:
    """Package-merge, as Go does it."""
    lengths = [0] * len(counts)
    used = sorted((count, symbol) for symbol, count in enumerate(counts) if count)
    if len(used) <= 2:
        for _, symbol in used:
            lengths[symbol] = 1
        return lengths
    symbols = [(count, symbol) for count, symbol in used]
    rows = [symbols]
    for _ in range(min(limit, len(used) - 1) - 1):
        below = rows[-1]
        pairs = [(below[at][0] + below[at + 1][0], None) for at in range(0, len(below) - 1, 2)]
        # Sorting keeps the order of what weighs the same.
        rows.append(sorted(pairs + symbols, key=lambda item: item[0]))
    taken = 2 * len(used) - 2
    for row in reversed(rows):
        items = row[:taken]
        for _, symbol in items:
            if symbol is not None:
                lengths[symbol] += 1
        taken = 2 * sum(symbol is None for _, symbol in items)
    return lengths


def runs(lengths: list[int]) -> Iterator[tuple[int, int, int]]:
    """Symbols of a head, with value and number of their extra bits."""
    at = 0
    while at < len(lengths):
        value, left = lengths[at], 1
        while at + left < len(lengths) and lengths[at + left] == value:
            left += 1
        at += left
        if value == 0:
            while left >= 11:
                yield 18, min(left, 138) - 11, 7
                left -= min(left, 138)
            if left >= 3:
                yield 17, left - 3, 3
                left = 0
        else:
            yield value, 0, 0
            left -= 1
            while left >= 3:
                yield 16, min(left, 6) - 3, 2
                left -= min(left, 6)
        yield from [(value, 0, 0)] * left


def listed(lengths: list[int], least: int) -> int:
    return max([least, *(at + 1 for at, length in enumerate(lengths) if length)])


def write_head(bits: Bits, counts: list[int], distance_counts: list[int]) -> tuple[dict, dict]:
    """The head that is predicted, and its codes."""
    if not any(distance_counts):
        distance_counts = [1] + [0] * 29
    lengths, distances = optimal(counts, 15), optimal(distance_counts, 15)
    literals, copies = listed(counts, 257), listed(distance_counts, 1)
    said = list(runs(lengths[:literals] + distances[:copies]))
    uses = [0] * 19
    for symbol, _, _ in said:
        uses[symbol] += 1
    own = optimal(uses, 7)
    ordered = [own[symbol] for symbol in HEAD_ORDER]
    shown = listed(ordered, 4)
    for value, count in (literals - 257, 5), (copies - 1, 5), (shown - 4, 4):
        bits.put(value, count)
    for length in ordered[:shown]:
        bits.put(length, 3)
    own_codes = codes(own)
    for symbol, extra, count in said:
        bits.code(own_codes[symbol])
        bits.put(extra, count)
    return codes(lengths), codes(distances)


def read_head(data: bytes, count: int) -> tuple[dict, dict]:
    """The codes of a head that is given."""
    number, at = int.from_bytes(data, "little"), 0

    def take(bits: int) -> int:
        nonlocal at
        at += bits
        if at > count:
            raise Damaged("a head does not end where it says")
        return number >> at - bits & (1 << bits) - 1

    literals, copies, shown = take(5) + 257, take(5) + 1, take(4) + 4
    own = [0] * 19
    for symbol in HEAD_ORDER[:shown]:
        own[symbol] = take(3)
    symbols = {code: symbol for symbol, code in codes(own).items()}
    lengths: list[int] = []
    while len(lengths) < literals + copies:
        value = bits = 0
        while (value, bits) not in symbols or bits == 0:
            value, bits = value << 1 | take(1), bits + 1
        symbol = symbols[value, bits]
        if symbol == 16 and not lengths:
            raise Damaged("a head repeats nothing")
        repeat = {16: (3, 2), 17: (3, 3), 18: (11, 7)}.get(symbol)
        times = 1 if repeat is None else repeat[0] + take(repeat[1])
        lengths += [symbol if repeat is None else lengths[-1] if symbol == 16 else 0] * times
    if len(lengths) != literals + copies or at != count:
        raise Damaged("a head does not end where it says")
    return codes(lengths[:literals]), codes(lengths[literals:])


FIXED = codes([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8), codes([5] * 30)


def symbol_of(firsts: list[int], value: int) -> int:
    return max(symbol for symbol, first in enumerate(firsts) if first <= value)


class Recreator:
    def __init__(self, plain: bytes, recipe: bytes) -> None:
        self.plain, self.reader, self.at = plain, Reader(recipe, "recipe"), 0
        for what, known in ("version", (1,)), ("predictor", (1, 2)):
            number = self.reader.unsigned(1)
            if number not in known:
                raise Unsupported(f"{what} {number} of a recipe")
        self.predictor = (Go16 if number == 1 else Go127)(plain)
        self.bits = Bits(self.reader.string(HEAD_MAX))
        # Of a block that goes on: how its sections begin, and its codes.
        self.open: tuple[int, tuple[dict, dict]] | None = None

    def run(self) -> bytes:
        while (first := self.reader.unsigned(1)) != 3:
            self.block(first)
        stream = self.bits.done
        while piece := self.reader.string(PIECE_MAX):
            stream += piece
        if self.reader.remaining():
            raise Damaged("something follows a recipe")
        return bytes(stream)

    def block(self, first: int) -> None:
        kind = first & 3
        if first >> 7 or kind == 3 or (kind == 0 and first & 0x78 != 8) or (kind == 1 and first & 0x10):
            raise Damaged(f"no block begins with {first}")
        if self.open and (self.open[0] != first & 7 or first & 0x10):
            raise Damaged("a block goes on as another one")
        length = self.reader.varint(TOKENS_MAX if kind else STORED_MAX) if first & 8 else 16_384
        head = None
        if first & 0x10:
            count = self.reader.varint(HEAD_BITS_MAX)
            head = self.reader.bytes((count + 7) // 8), count
        corrections = self.corrections(length) if first & 0x20 else {}
        if not self.open:
            self.bits.put(first >> 2 & 1, 1)
            self.bits.put(kind, 2)
        if kind == 0:
            self.bits.put(0, -self.bits.count % 8)
            self.bits.put(length, 16)
            self.bits.put(length ^ 0xFFFF, 16)
            self.bits.done += self.take(length)
            return
        tokens = [self.token(corrections.get(number, False)) for number in range(length)]
        both = self.open[1] if self.open else FIXED if kind == 1 else self.dynamic(tokens, head)
        self.open = (first & 7, both) if first & 0x40 else None
        self.write(tokens, both)

    def corrections(self, length: int) -> dict[int, Token]:
        found, at = {}, 0
        for _ in range(self.reader.varint(length)):
            at += self.reader.varint(TOKENS_MAX)
            copied = self.reader.varint(COPY_MAX - 2)
            found[at] = (copied + 2, self.reader.varint(FAR)) if copied else None
            at += 1
        if at > length:
            raise Damaged("a correction is behind its block")
        return found

    def take(self, length: int) -> bytes:
        self.at += length
        if self.at > len(self.plain):
            raise Damaged("a token goes beyond the plain bytes")
        return self.plain[self.at - length : self.at]

    def token(self, corrected) -> tuple[int, int]:
        """A literal and 0, or length and distance of a copy."""
        token = self.predictor.token(self.at) if corrected is False else corrected
        if token is None:
            return self.take(1)[0], 0
        self.take(token[0])
        return token

    def dynamic(self, tokens, head) -> tuple[dict, dict]:
        if head:
            data, count = head
            for at in range(count):
                self.bits.put(data[at // 8] >> at % 8 & 1, 1)
            return read_head(data, count)
        counts, distances = [0] * 286, [0] * 30
        counts[END] = 1
        for value, distance in tokens:
            counts[value if distance == 0 else 257 + symbol_of(LENGTHS, value)] += 1
            if distance:
                distances[symbol_of(DISTANCES, distance)] += 1
        return write_head(self.bits, counts, distances)

    def write(self, tokens, both: tuple[dict, dict]) -> None:
        literals, copies = both
        try:
            for value, distance in tokens:
                if distance == 0:
                    self.bits.code(literals[value])
                    continue
                symbol = symbol_of(LENGTHS, value)
                self.bits.code(literals[257 + symbol])
                self.bits.put(value - LENGTHS[symbol], LENGTH_BITS[symbol])
                symbol = symbol_of(DISTANCES, distance)
                self.bits.code(copies[symbol])
                self.bits.put(distance - DISTANCES[symbol], DISTANCE_BITS[symbol])
            if not self.open:
                self.bits.code(literals[END])
        except KeyError:
            raise Damaged("a token has no code") from None


def recreate(plain: bytes, recipe: bytes) -> bytes:
    return Recreator(plain, recipe).run()
