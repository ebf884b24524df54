// SPDX-License-Identifier: Apache-2.0
// How long a driver in user space waits when its device lacks a page: the device (iommu_test) is told to read where nothing is mapped,
// asks for the page, the program reads the request, maps the page and answers, and the device ends. It takes the first device of
// /dev/vfio/devices. Rows: the whole; from the doorbell's return to the answer's, with poll and map; the calls of the queue alone, which
// have a goal; each part. An argument is put before their names.
#include <poll.h>

#include "vfio.h"

#define IOVA 0x200000
#define ROUNDS 5000

// Registers of iommu_test, and of the edu that it also is.
enum { ADDRESS = 0x1008, LENGTH = 0x1010, GROUP = 0x101c, MODE = 0x1024, COMMAND = 0x1030, STATE = 0x1080 };
enum { IRQ_ACKNOWLEDGE = 0x64, IRQ_BITS = 0x200 };
enum { FAULTING_READ = 8, RAISE = 8, DONE = 3 };

static int device, iommu, interrupts, faults;
static uint32_t ioas;
static uint64_t bar0;

static int write_register(unsigned offset, uint64_t value, size_t bytes)
{
	return pwrite(device, &value, bytes, bar0 + offset) == (ssize_t)bytes ? 0 : -1;
}

static int attach_with_queue(uint32_t dev_id)
{
	struct iommu_fault_alloc queue = { .size = sizeof(queue) };
	struct iommu_hwpt_alloc table = { .size = sizeof(table), .flags = IOMMU_HWPT_FAULT_ID_VALID, .dev_id = dev_id };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };

	if (ioas_alloc(iommu, &ioas) || ioctl(iommu, IOMMU_FAULT_QUEUE_ALLOC, &queue))
		return -1;
	faults = queue.out_fault_fd;
	table.pt_id = ioas;
	table.fault_id = queue.out_fault_id;
	if (ioctl(iommu, IOMMU_HWPT_ALLOC, &table))
		return -1;
	attach.pt_id = table.out_hwpt_id;
	return ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

static int set_up(void)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommu };

	if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) || attach_with_queue(bind.out_devid))
		return -1;
	bar0 = region(device, VFIO_PCI_BAR0_REGION_INDEX);
	if (enable_bus_master(device))
		return -1;
	interrupts = count_interrupts(device);
	if (interrupts < 0)
		return -1;
	return write_register(MODE, RAISE, 4) || write_register(LENGTH, 16, 4) || write_register(ADDRESS, IOVA, 8) ||
	       write_register(GROUP, 5, 4);
}

static int wait_for(int fd)
{
	struct pollfd waiting = { .fd = fd, .events = POLLIN };

	if (poll(&waiting, 1, 5000) == 1)
		return 0;
	errno = ETIMEDOUT;
	return -1;
}

static int read_request(uint32_t *cookie)
{
	struct iommu_hwpt_pgfault fault;

	if (read(faults, &fault, sizeof(fault)) != sizeof(fault))
		return -1;
	*cookie = fault.cookie;
	return 0;
}

static int respond(uint32_t cookie)
{
	struct iommu_hwpt_page_response response = { .cookie = cookie, .code = IOMMUFD_PAGE_RESP_SUCCESS };

	return write(faults, &response, sizeof(response)) == sizeof(response) ? 0 : -1;
}

// Series of what one request takes, by part.
static struct series *whole, *mapped, *pair, *doorbell, *waited, *reading, *mapping, *responding, *ended;

static int once(void *page)
{
	double at[7];
	uint32_t cookie = 0, state = 0;
	uint64_t times;

	at[0] = now_us();
	if (write_register(COMMAND, FAULTING_READ, 4))
		return -1;
	at[1] = now_us();
	if (wait_for(faults))
		return -1;
	at[2] = now_us();
	if (read_request(&cookie))
		return -1;
	at[3] = now_us();
	if (map_fixed(iommu, ioas, page, 4096, IOVA))
		return -1;
	at[4] = now_us();
	if (respond(cookie))
		return -1;
	at[5] = now_us();
	if (wait_for(interrupts) || read(interrupts, &times, sizeof(times)) != sizeof(times))
		return -1;
	at[6] = now_us();
	add(whole, at[6] - at[0]);
	add(mapped, at[5] - at[1]);
	add(pair, at[3] - at[2] + at[5] - at[4]);
	add(doorbell, at[1] - at[0]);
	add(waited, at[2] - at[1]);
	add(reading, at[3] - at[2]);
	add(mapping, at[4] - at[3]);
	add(responding, at[5] - at[4]);
	add(ended, at[6] - at[5]);
	if (pread(device, &state, 4, bar0 + STATE) != 4 || state != DONE) {
		errno = EIO;
		return -1;
	}
	return write_register(IRQ_ACKNOWLEDGE, IRQ_BITS, 4) || unmap(iommu, ioas, IOVA, 4096);
}

static struct series *named(const char *prefix, const char *name)
{
	char *text = malloc(strlen(prefix) + strlen(name) + 1);

	return series(strcat(strcpy(text, prefix), name));
}

int main(int argc, char **argv)
{
	const char *prefix = argc > 1 ? argv[1] : "";
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct series **all[] = { &whole, &mapped, &pair, &doorbell, &waited, &reading, &mapping, &responding, &ended };
	const char *names[] = {
		"doorbell to end of DMA", "request mapped and answered", "request read and answered",
		"  of which the doorbell", "  of which poll",		 "  of which read",
		"  of which IOAS_MAP",	  "  of which the response",	 "  of which the interrupt",
	};
	size_t i;
	int round;

	iommu = open_iommu();
	device = open("/dev/vfio/devices/vfio0", O_RDWR | O_CLOEXEC);
	// The first rounds are thrown away: everything is compiled in them.
	for (round = 0; round < ROUNDS + 500; round++) {
		if (round == 0 || round == 500)
			for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
				*all[i] = named(prefix, names[i]);
		if ((round == 0 && (device < 0 || set_up())) || once(page)) {
			whole->error = errno;
			break;
		}
	}
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		row(*all[i]);
	return 0;
}
