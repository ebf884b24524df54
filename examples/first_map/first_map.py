#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""First steps with /dev/iommu: address spaces for devices, memory mapped into them, and a few mistakes.

An ordinary program: it knows nothing of iommulator, and runs on real Linux with the iommufd module as well.
Needs Python 3.6 or newer and nothing else.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import sys

# From <linux/iommufd.h>. Every request passes one structure, whose first word is its size in bytes.
IOMMU_DESTROY = 0x3B80
IOMMU_IOAS_ALLOC = 0x3B81
IOMMU_IOAS_COPY = 0x3B83
IOMMU_IOAS_IOVA_RANGES = 0x3B84
IOMMU_IOAS_MAP = 0x3B85
IOMMU_IOAS_UNMAP = 0x3B86
IOMMU_OPTION = 0x3B87
FIXED_IOVA, WRITEABLE, READABLE = 1, 2, 4
OPTION_HUGE_PAGES, OPTION_SET = 1, 0

# The fields after the size, as the struct module writes them: I is 32 bits, H is 16 and Q is 64.
FORMATS = {
    IOMMU_DESTROY: "=II",  # size, id
    IOMMU_IOAS_ALLOC: "=III",  # size, flags, out_ioas_id
    IOMMU_IOAS_COPY: "=IIIIQQQ",  # size, flags, dst_ioas_id, src_ioas_id, length, dst_iova, src_iova
    IOMMU_IOAS_IOVA_RANGES: "=IIIIQQ",  # size, ioas_id, num_iovas, __reserved, allowed_iovas, out_iova_alignment
    IOMMU_IOAS_MAP: "=IIIIQQQ",  # size, flags, ioas_id, __reserved, user_va, length, iova
    IOMMU_IOAS_UNMAP: "=IIQQ",  # size, ioas_id, iova, length
    IOMMU_OPTION: "=IIHHIQ",  # size, option_id, op, __reserved, object_id, val64
}

try:
    iommu = os.open("/dev/iommu", os.O_RDWR)
except OSError as error:
    print(f"cannot open /dev/iommu: {error.strerror}", file=sys.stderr)
    print("Try: iommulator run --strace -- python3 first_map.py", file=sys.stderr)
    print("or, on Linux 6.2 or newer, as root: modprobe iommufd", file=sys.stderr)
    sys.exit(1)


def call(request, *fields, size=None, tail=b""):
    """Calls the kernel and returns the fields as it left them; raises OSError."""
    form = FORMATS[request]
    size = struct.calcsize(form) + len(tail) if size is None else size
    memory = bytearray(struct.pack(form, size, *fields) + tail)
    fcntl.ioctl(iommu, request, memory)
    return struct.unpack_from(form, memory)


def mistake(what, expected, why, request, *fields, **options):
    """Makes a call that must fail, and explains the error."""
    try:
        call(request, *fields, **options)
    except OSError as error:
        if error.errno != getattr(errno, expected):
            sys.exit(f"{what}: expected {expected}, got {error}")
        print(f"{what}: {expected}\n    {why}")
    else:
        sys.exit(f"{what}: expected {expected}, but it succeeded")


def step(text):
    print(f"\n# {text}")


step("An I/O address space (IOAS) is what devices see in place of physical memory.")
_, _, ioas = call(IOMMU_IOAS_ALLOC, 0, 0)
print(f"IOAS {ioas} exists.")

step("Which I/O virtual addresses (IOVAs) may be used? Devices, once attached, narrow them.")
ranges = (ctypes.c_uint64 * 8)()
_, _, count, _, _, alignment = call(
    IOMMU_IOAS_IOVA_RANGES, ioas, 4, 0, ctypes.addressof(ranges), 0
)
for i in range(count):
    print(f"{ranges[2 * i]:#x} to {ranges[2 * i + 1]:#x}, alignment {alignment}")

step("Map 64 KiB of our memory for devices to read and write. The kernel picks the IOVA.")
length = 0x10000
memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
iova = call(IOMMU_IOAS_MAP, READABLE | WRITEABLE, ioas, 0, address, length, 0)[6]
print(f"A device that accesses {iova:#x} reaches our memory at {address:#x}.")

step("Map a page of it again, at an IOVA of our own choice.")
chosen = 0x100000
call(IOMMU_IOAS_MAP, READABLE | FIXED_IOVA, ioas, 0, address, 0x1000, chosen)
print(f"{chosen:#x} reaches the same page, for reading only.")

step("Share it with a second address space. COPY does not pin the memory a second time.")
_, _, other = call(IOMMU_IOAS_ALLOC, 0, 0)
call(IOMMU_IOAS_COPY, READABLE | FIXED_IOVA, other, ioas, length, 0x200000, iova)
print(f"IOAS {other} has at 0x200000 what IOAS {ioas} has at {iova:#x}.")

step("Mistakes, and what the kernel answers.")
mistake(
    "Mapping over a mapping",
    "EEXIST",
    "A mapping is never replaced: a device may be using it. Unmap first.",
    *(IOMMU_IOAS_MAP, READABLE | FIXED_IOVA, ioas, 0, address, 0x1000, chosen),
)
# Without devices every IOVA will do. Mapping page by page is what most hardware asks for at the least.
call(IOMMU_OPTION, OPTION_HUGE_PAGES, OPTION_SET, 0, ioas, 0)
mistake(
    "Mapping between two pages",
    "EINVAL",
    "IOVA, address and length must be multiples of the alignment, now 4096.",
    *(IOMMU_IOAS_MAP, READABLE | FIXED_IOVA, ioas, 0, address, 0x1000, 0x1800),
)
mistake(
    "Unmapping half of a mapping",
    "ENOENT",
    "No mapping lies wholly inside that range, and mappings are never split.",
    *(IOMMU_IOAS_UNMAP, ioas, iova, length // 2),
)
mistake(
    "Naming an object that does not exist",
    "ENOENT",
    "Ids are handed out by the kernel: there is no object 99.",
    *(IOMMU_IOAS_MAP, READABLE, 99, 0, address, 0x1000, 0),
)
mistake(
    "A flag of the future",
    "EOPNOTSUPP",
    "The structure is understood, but not this flag: the kernel is too old for it.",
    *(IOMMU_IOAS_MAP, READABLE | 0x80, ioas, 0, address, 0x1000, 0),
)
mistake(
    "A structure that ends too early",
    "EINVAL",
    "Its size must cover at least the fields that the first version had.",
    *(IOMMU_IOAS_MAP, READABLE, ioas, 0, address, 0x1000, 0),
    size=16,
)
mistake(
    "A structure with a field of the future",
    "E2BIG",
    "Longer structures are welcome as long as what the kernel does not know is zero.",
    *(IOMMU_IOAS_MAP, READABLE, ioas, 0, address, 0x1000, 0),
    tail=b"\1\0\0\0",
)

step("Unmap everything, and give the address spaces back.")
unmapped = call(IOMMU_IOAS_UNMAP, ioas, 0, 2**64 - 1)[3]
print(f"{unmapped:#x} bytes unmapped from IOAS {ioas}.")
call(IOMMU_DESTROY, other)
call(IOMMU_DESTROY, ioas)
mistake(
    "Destroying it once more",
    "ENOENT",
    "Destroyed objects are gone at once, and their ids may be given out again.",
    *(IOMMU_DESTROY, ioas),
)
os.close(iommu)
