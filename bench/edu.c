// SPDX-License-Identifier: Apache-2.0
// How long a driver in user space waits for an edu device: a register, a DMA of a page from the doorbell to the interrupt, and many of
// them in a row. It takes the first device of /dev/vfio/devices, bound to vfio-pci.
#include <poll.h>

#include "vfio.h"

#define BUFFER 0x40000
#define IOVA 0x100000
#define DMA 0x80 // source, destination, count and command follow each other

enum { RUN = 1, TO_MEMORY = 2, INTERRUPT = 4 };

static int device, interrupts;
static uint64_t bar0;

static int give_up(const char *why)
{
	const char *rows[] = { "edu register read", "edu register write", "edu DMA 4 KiB, doorbell to interrupt",
			       "edu DMA 1 MiB, in pages" };
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		printf("%s\tn/a\t%s\n", rows[i], why);
	return 0;
}

static int transfer(uint64_t iova, int to_memory, int flags)
{
	uint64_t registers[4] = { to_memory ? BUFFER : iova, to_memory ? iova : BUFFER, 4096,
				  RUN | (to_memory ? TO_MEMORY : 0) | flags };

	return pwrite(device, registers, sizeof(registers), bar0 + DMA) == sizeof(registers) ? 0 : -1;
}

static int set_up(int iommu, unsigned char *memory, size_t bytes)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommu };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	uint32_t ioas;

	if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) || ioas_alloc(iommu, &ioas))
		return -1;
	attach.pt_id = ioas;
	bar0 = region(device, VFIO_PCI_BAR0_REGION_INDEX);
	if (ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) || map_fixed(iommu, ioas, memory, bytes, IOVA))
		return -1;
	if (enable_bus_master(device))
		return -1;
	interrupts = count_interrupts(device);
	return interrupts < 0 ? -1 : 0;
}

static int doorbell_to_interrupt(int to_memory)
{
	struct pollfd waiting = { .fd = interrupts, .events = POLLIN };
	uint64_t command = RUN | INTERRUPT | (to_memory ? TO_MEMORY : 0), times;

	if (pwrite(device, &command, 8, bar0 + DMA + 24) != 8)
		return -1;
	return poll(&waiting, 1, 5000) == 1 && read(interrupts, &times, 8) == 8 ? 0 : -1;
}

static int whole(size_t bytes)
{
	size_t at;

	for (at = 0; at < bytes; at += 4096)
		if (transfer(IOVA + at, 1, 0))
			return -1;
	return 0;
}

int main(void)
{
	int iommu = open_iommu(), i, rounds = 5000;
	size_t bytes = MiB;
	unsigned char *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct series *get = series("edu register read"), *set = series("edu register write");
	struct series *page = series("edu DMA 4 KiB, doorbell to interrupt");
	struct series *many = series("edu DMA 1 MiB, in pages");
	uint32_t value = 0;

	device = open("/dev/vfio/devices/vfio0", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return give_up("there is no /dev/vfio/devices/vfio0");
	if (set_up(iommu, memory, bytes))
		return give_up("the device could not be set up");
	for (i = -500; i < rounds; i++) {
		static struct series warm;

		TIMED(i < 0 ? &warm : get, pread(device, &value, 4, bar0) == 4 ? 0 : -1);
		TIMED(i < 0 ? &warm : set, pwrite(device, &value, 4, bar0 + 4) == 4 ? 0 : -1);
	}
	row(get);
	row(set);
	// From the device's buffer to memory: the source, the destination and the count stay.
	if (transfer(IOVA, 1, 0))
		return 1;
	for (i = -500; i < rounds; i++) {
		static struct series warm;

		TIMED(i < 0 ? &warm : page, doorbell_to_interrupt(1));
	}
	row(page);
	for (i = 0; i < 40; i++)
		TIMED(many, whole(bytes));
	row(many);
	return 0;
}
