#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A driver in user space, as small as it can be: find a PCI device, bind it to /dev/iommu, give it a page of our memory, let it read
and write there, and see what happens where it may not. The device is edu, the educational device of QEMU.

An ordinary program: it knows nothing of iommulator, and runs on real Linux (6.6 or newer) with such a device as well.
Needs Python 3.6 or newer and nothing else.
"""

import ctypes
import fcntl
import mmap
import os
import select
import struct
import sys
import time

DEVICES = "/sys/bus/pci/devices"
PAGE = 4096

# From <linux/iommufd.h> and <linux/vfio.h>. Every request passes one structure, whose first word is its size in bytes.
IOMMU_IOAS_ALLOC, IOMMU_IOAS_MAP, IOMMU_IOAS_UNMAP = 0x3B81, 0x3B85, 0x3B86
FIXED_IOVA, WRITEABLE, READABLE = 1, 2, 4
VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_SET_IRQS = 0x3B6B, 0x3B6C, 0x3B6E
VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3B76, 0x3B77, 0x3B78
BAR0_REGION, CONFIG_REGION = 0, 7
MSI_IRQ, DATA_EVENTFD, ACTION_TRIGGER = 1, 1 << 2, 1 << 5

# The fields after the size, as the struct module writes them: I is 32 bits and Q is 64.
FORMATS = {
    IOMMU_IOAS_ALLOC: "=III",  # size, flags, out_ioas_id
    IOMMU_IOAS_MAP: "=IIIIQQQ",  # size, flags, ioas_id, __reserved, user_va, length, iova
    IOMMU_IOAS_UNMAP: "=IIQQ",  # size, ioas_id, iova, length
    VFIO_DEVICE_GET_INFO: "=IIIII",  # argsz, flags, num_regions, num_irqs, cap_offset
    VFIO_DEVICE_GET_REGION_INFO: "=IIIIQQ",  # argsz, flags, index, cap_offset, size, offset
    VFIO_DEVICE_SET_IRQS: "=IIIIIi",  # argsz, flags, index, start, count, then descriptors
    VFIO_DEVICE_BIND_IOMMUFD: "=IIiI",  # argsz, flags, iommufd, out_devid
    VFIO_DEVICE_ATTACH_IOMMUFD_PT: "=III",  # argsz, flags, pt_id
    VFIO_DEVICE_DETACH_IOMMUFD_PT: "=II",  # argsz, flags
}

# The registers of edu in its BAR 0, and its buffer, as its own DMA engine sees it.
IDENTIFICATION, LIVENESS, FACTORIAL, STATUS, IRQ_STATUS, IRQ_ACKNOWLEDGE = 0x00, 0x04, 0x08, 0x20, 0x24, 0x64
DMA_SOURCE, DMA_DESTINATION, DMA_COUNT, DMA_COMMAND = 0x80, 0x88, 0x90, 0x98
RUN, TO_MEMORY, INTERRUPT = 1, 2, 4
COMPUTING = 1
BUFFER = 0x40000


def step(text):
    print(f"\n# {text}")


def call(fd, request, *fields):
    """Calls the kernel and returns the fields as it left them; raises OSError."""
    form = FORMATS[request]
    memory = bytearray(struct.pack(form, struct.calcsize(form), *fields))
    fcntl.ioctl(fd, request, memory)
    return struct.unpack(form, memory)


def read_line(bdf, name):
    try:
        with open(f"{DEVICES}/{bdf}/{name}") as file:
            return file.readline().rstrip("\n")
    except OSError:
        return ""


step("Find the device in sysfs: vendor 0x1234, device 0x11e8.")
found = [
    bdf
    for bdf in sorted(os.listdir(DEVICES) if os.path.isdir(DEVICES) else [])
    if read_line(bdf, "vendor") == "0x1234" and read_line(bdf, "device") == "0x11e8"
]
if not found:
    print("no such device here.", file=sys.stderr)
    print("Try: iommulator run --strace -- python3 first_dma.py", file=sys.stderr)
    print("or QEMU with -device edu and an IOMMU, and the device bound to vfio-pci", file=sys.stderr)
    sys.exit(1)
bdf = found[0]
group, driver = (os.path.basename(os.readlink(f"{DEVICES}/{bdf}/{name}")) for name in ("iommu_group", "driver"))
cdev = os.listdir(f"{DEVICES}/{bdf}/vfio-dev")[0]
print(f"{bdf}, in IOMMU group {group}, driver {driver}, character device {cdev}")

step("Open it and /dev/iommu, and bind the one to the other: only now it answers.")
device = os.open(f"/dev/vfio/devices/{cdev}", os.O_RDWR)
iommu = os.open("/dev/iommu", os.O_RDWR)
call(device, VFIO_DEVICE_BIND_IOMMUFD, 0, iommu, 0)
_, _, regions, irqs, _ = call(device, VFIO_DEVICE_GET_INFO, 0, 0, 0, 0)
print(f"it has {regions} regions and {irqs} kinds of interrupts")

step("Where its registers are: BAR 0 and config space are places in its file.")
*_, size, bar0 = call(device, VFIO_DEVICE_GET_REGION_INFO, 0, BAR0_REGION, 0, 0, 0)
print(f"BAR 0: {size} bytes")
*_, config = call(device, VFIO_DEVICE_GET_REGION_INFO, 0, CONFIG_REGION, 0, 0, 0)


def read_register(offset, size=4):
    return int.from_bytes(os.pread(device, size, bar0 + offset), "little")


def write_register(offset, value, size=4):
    os.pwrite(device, value.to_bytes(size, "little"), bar0 + offset)


print(f"identification {read_register(IDENTIFICATION):#x}")
write_register(LIVENESS, 0x12345678)
print(f"0x12345678 written comes back as {read_register(LIVENESS):#x}")
write_register(FACTORIAL, 10)
while read_register(STATUS) & COMPUTING:
    time.sleep(0.001)
print(f"10! is {read_register(FACTORIAL)}")

step("An address space for its DMA, and in it two pages of ours at 0x100000.")
_, _, ioas = call(iommu, IOMMU_IOAS_ALLOC, 0, 0)
call(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, 0, ioas)
memory = mmap.mmap(-1, 3 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
call(iommu, IOMMU_IOAS_MAP, FIXED_IOVA | READABLE | WRITEABLE, ioas, 0, address, 2 * PAGE, 0x100000)
print("mapped")

step("Let it do DMA (bus mastering, in config space), and tell us by MSI when it is done.")
command = int.from_bytes(os.pread(device, 2, config + 4), "little") | 4
os.pwrite(device, command.to_bytes(2, "little"), config + 4)
# Python has eventfd() from 3.10 on: take it from the C library.
interrupts = ctypes.CDLL(None).eventfd(0, 0)
call(device, VFIO_DEVICE_SET_IRQS, DATA_EVENTFD | ACTION_TRIGGER, MSI_IRQ, 0, 1, interrupts)
print("ready")


def dma(iova, count, to_memory):
    """Lets the device move bytes between its buffer and an I/O address, and waits for its interrupt."""
    write_register(DMA_SOURCE, BUFFER if to_memory else iova, 8)
    write_register(DMA_DESTINATION, iova if to_memory else BUFFER, 8)
    write_register(DMA_COUNT, count, 8)
    write_register(DMA_COMMAND, RUN | INTERRUPT | (TO_MEMORY if to_memory else 0), 8)
    waiting = select.poll()
    waiting.register(interrupts, select.POLLIN)
    if not waiting.poll(5000):
        sys.exit("no interrupt came within 5 seconds")
    os.read(interrupts, 8)
    status = read_register(IRQ_STATUS)
    print(f"interrupt, status {status:#x}")
    write_register(IRQ_ACKNOWLEDGE, status)


step("DMA: it reads 64 bytes from our first page, and writes them into the second.")
memory[:15] = b"Hello, device!\0"
dma(0x100000, 64, to_memory=False)
dma(0x101000, 64, to_memory=True)
print("the second page says:", memory[PAGE : PAGE + 64].split(b"\0")[0].decode())

step("DMA from an address where nothing is mapped.")
dma(0x300000, 8, to_memory=False)
dma(0x101000, 8, to_memory=True)
print("what it read instead:", memory[PAGE : PAGE + 8].hex(" "))

step("DMA into a page that it may only read.")
memory[2 * PAGE :] = b"\x55" * PAGE
call(iommu, IOMMU_IOAS_MAP, FIXED_IOVA | READABLE, ioas, 0, address + 2 * PAGE, PAGE, 0x200000)
dma(0x200000, 8, to_memory=True)
print("the page still has:", memory[2 * PAGE : 2 * PAGE + 8].hex(" "))

step("Detach: from here on its DMA goes nowhere. Closing its file gives it back.")
call(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, 0)
*_, length = call(iommu, IOMMU_IOAS_UNMAP, ioas, 0, 2**64 - 1)
print(f"{length} bytes unmapped")
os.close(device)
os.close(iommu)
