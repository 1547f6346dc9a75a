"""The opcodes of a pickle, checked before an interpreter runs them, so that none can exhaust the memory or the stack.

A pickle of a few bytes can ask for gigabytes (a memo entry of number 100,000,000) or crash the interpreter (the hash of 150,000 nested
tuples). `data.interchange.safe_pickle` decides which values a pickle may contain.

Source: `pickletools.opcodes` of the standard library, which describes the arguments and the stack effect of every opcode.
"""

import io
import pickle
import pickletools
from typing import IO

MOST_PARTS = 2_000_000
"""Most opcodes of a pickle. One makes an object of up to 200 bytes; features of 20,000 utterances need some 200,000."""

DEEPEST = 100
"""Deepest nesting of tuples, lists and dicts. Pickles of features need less than 10."""

_LONGEST_NUMBER = 24
"""Longest integer in a pickle, in bytes of its binary or decimal form. One of 64 bits has at most 20 digits."""

_BYTES_OF_LENGTH = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_NUMBERS = ("INT", "LONG", "LONG1", "LONG4")
_IN_PLACE = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
"""Opcodes that change the lowest value they take from the stack and put it back."""

_MARK = -1


class _Opcode:
    """An opcode: its arguments, and its effect on the stack."""

    __slots__ = ("changes_stack", "is_in_place", "is_number", "length_bytes", "lines", "name", "size", "takes", "takes_mark", "yields")

    def __init__(self, described: pickletools.OpcodeInfo) -> None:
        self.name = described.name
        size = described.arg.n if described.arg else 0
        self.size = max(size, 0)  # bytes of an argument of fixed size
        self.lines = (size == pickletools.UP_TO_NEWLINE) * (2 if self.name in ("GLOBAL", "INST") else 1)
        self.length_bytes = _BYTES_OF_LENGTH.get(size, 0)  # bytes of the length in front of an argument of variable size
        self.is_number = self.name in _NUMBERS
        self.takes_mark = pickletools.markobject in described.stack_before
        before = described.stack_before
        self.takes = before.index(pickletools.markobject) if self.takes_mark else len(before)  # values, below the mark if there is one
        self.yields = len(described.stack_after)
        self.is_in_place = self.name in _IN_PLACE
        self.changes_stack = bool(before or described.stack_after) or self.name in ("PUT", "BINPUT", "LONG_BINPUT")


_OPCODES = {ord(described.code): _Opcode(described) for described in pickletools.opcodes}


class ExcessError(Exception):
    """A pickle asks for more than features need. The text names what."""


def check_opcodes(file: IO[bytes], size: int) -> None:
    """Read the opcodes of a pickle up to its end, skipping the bytes of arrays and texts, and interpret none.

    Args:
        file: A file at the start of the pickle.
        size: The size of the file in bytes.

    Raises:
        EOFError: The file ends inside the pickle.
        pickle.UnpicklingError: The bytes are not a pickle.
        ExcessError: It has more than `MOST_PARTS` parts, values nested deeper than `DEEPEST`, an integer of more than 24 bytes, or a
            memo entry with a number above the count of opcodes.
    """
    depths = _Depths()
    for count in range(1, MOST_PARTS + 1):
        code = file.read(1)
        if not code:
            raise EOFError
        opcode = _OPCODES.get(code[0])
        if opcode is None:
            raise pickle.UnpicklingError(f"unknown opcode {code.hex()}")
        if opcode.name == "STOP":
            return
        argument = _argument(file, opcode, size)
        if opcode.changes_stack:
            depths.apply(opcode, argument, count)
    raise ExcessError(f"more than {MOST_PARTS:,} parts")


def _argument(file: IO[bytes], opcode: _Opcode, size: int) -> bytes:
    """Return an argument of fixed size or of a line; skip one whose length is in front of it."""
    if opcode.size:
        argument = file.read(opcode.size)
        if len(argument) < opcode.size or (opcode.name == "FRAME" and int.from_bytes(argument, "little") > size - file.tell()):
            raise EOFError
        return argument
    if opcode.lines:
        lines = [file.readline() for _ in range(opcode.lines)]
        if not lines[-1].endswith(b"\n"):
            raise EOFError
        if opcode.is_number:
            _expect_short(opcode, len(lines[0].strip()))
        return lines[0]
    if opcode.length_bytes:
        length = int.from_bytes(file.read(opcode.length_bytes), "little")
        if length > size - file.tell():
            raise EOFError
        if opcode.is_number:
            _expect_short(opcode, length)
        file.seek(length, io.SEEK_CUR)
    return b""


def _expect_short(opcode: _Opcode, length: int) -> None:
    if length > _LONGEST_NUMBER:
        raise ExcessError(f"an integer of {length:,} {'digits' if opcode.lines else 'bytes'}")


class _Depths:
    """The depth of nesting of each value on the stack and in the memo of a pickle.

    Values that enter a list or a dict after these were put into the memo are not counted there. Tuples, whose hash is what crashes the
    interpreter, are complete when they are made.
    """

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._memo: dict[int, int] = {}

    def apply(self, opcode: _Opcode, argument: bytes, count: int) -> None:
        """Carry out the effect of an opcode, the `count`-th of the pickle."""
        name = opcode.name
        if name == "MARK":
            self._stack.append(_MARK)
        elif name == "DUP":
            self._stack.append(self._top())
        elif name == "POP":
            self._pop(is_mark_allowed=True)
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._put(_index(opcode, argument), count)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._get(_index(opcode, argument))
        else:
            self._make(opcode)

    def _make(self, opcode: _Opcode) -> None:
        """Take the operands from the stack, and put the result there: one deeper than the deepest operand."""
        taken = []
        if opcode.takes_mark:
            while (depth := self._pop(is_mark_allowed=True)) != _MARK:
                taken.append(depth)
        taken += [self._pop() for _ in range(opcode.takes)]
        if not opcode.yields:
            return
        lowest = taken.pop() if opcode.is_in_place else 0
        depth = max(lowest, 1 + max(taken)) if taken else lowest
        if depth > DEEPEST:
            raise ExcessError(f"values nested deeper than {DEEPEST}")
        self._stack.append(depth)

    def _pop(self, *, is_mark_allowed: bool = False) -> int:
        if not self._stack or (self._stack[-1] == _MARK and not is_mark_allowed):
            raise pickle.UnpicklingError("an operation without its values")
        return self._stack.pop()

    def _top(self) -> int:
        if not self._stack or self._stack[-1] == _MARK:
            raise pickle.UnpicklingError("an operation without its values")
        return self._stack[-1]

    def _put(self, index: int, count: int) -> None:
        if index > count:  # picklers number their memo from 0 or 1, and the interpreter allots a table up to the highest number
            raise ExcessError(f"a memo entry of number {index:,} after {count:,} parts")
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise pickle.UnpicklingError(f"no memo entry of number {index}")
        self._stack.append(self._memo[index])


def _index(opcode: _Opcode, argument: bytes) -> int:
    if not opcode.lines:
        return int.from_bytes(argument, "little")
    if len(argument) > _LONGEST_NUMBER or not argument.strip().isdigit():
        raise pickle.UnpicklingError("a memo entry without a number")
    return int(argument)
