// SPDX-License-Identifier: Apache-2.0
// Latencies of /dev/iommu, with the mock devices of the kernel's test driver: runs on the real kernel (which then
// needs CONFIG_IOMMUFD_TEST) as it runs under iommulator. Usage: iommufd_bench [-n PERCENT] [-s]
//   -n 10: a tenth of the iterations; -s: without the 256 MiB rows
#define _GNU_SOURCE
#include "bench.h"
#include <poll.h>
#include <sys/syscall.h>

#include "iommufd_test.h"

#define BASE (1UL << 24) // where the mock device's aperture begins
#define ALL_SIZES (256 * MiB)

static int fd;
static int percent = 100;
static uint64_t max_map = ALL_SIZES;
static char *buffer;

struct mock {
	uint32_t ioas, stdev, hwpt, idev;
};

static int times(int n)
{
	n = n * percent / 100;
	return n < 5 ? 5 : n;
}

static int test_cmd(struct iommu_test_cmd *cmd)
{
	cmd->size = sizeof(*cmd);
	return ioctl(fd, IOMMU_TEST_CMD, cmd);
}

static int mock_create(struct mock *mock)
{
	struct iommu_test_cmd cmd = { .op = IOMMU_TEST_OP_MOCK_DOMAIN, .id = mock->ioas };
	int result = test_cmd(&cmd);

	mock->stdev = cmd.mock_domain.out_stdev_id;
	mock->hwpt = cmd.mock_domain.out_hwpt_id;
	mock->idev = cmd.mock_domain.out_idev_id;
	return result;
}

static int mock_replace(uint32_t stdev, uint32_t pt_id)
{
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
		.id = stdev,
		.mock_domain_replace = { .pt_id = pt_id },
	};

	return test_cmd(&cmd);
}

static int hwpt_alloc(struct iommu_hwpt_alloc cmd, uint32_t *id)
{
	int result;

	cmd.size = sizeof(cmd);
	result = ioctl(fd, IOMMU_HWPT_ALLOC, &cmd);
	*id = cmd.out_hwpt_id;
	return result;
}

static int open_close(void)
{
	int other = open("/dev/iommu", O_RDWR | O_CLOEXEC);

	return other < 0 ? -1 : close(other);
}

static int unknown_ioctl(void *bytes)
{
	return ioctl(fd, _IO(IOMMUFD_TYPE, 0xff), bytes) == -1 && errno == ENOTTY ? 0 : -1;
}

static void plain_rows(void)
{
	struct series *s[3];
	uint32_t id;
	char bytes[64] = { 64 };
	int i;

	s[0] = series("(clock read)");
	s[1] = series("(getppid)");
	s[2] = series("unknown ioctl (ENOTTY)");
	for (i = 0; i < times(10000); i++) {
		TIMED(s[0], 0);
		TIMED(s[1], (syscall(SYS_getppid), 0));
	}
	for (i = 0; i < times(5000); i++)
		if (TIMED(s[2], unknown_ioctl(bytes)))
			break;
	for (i = 0; i < 3; i++)
		row(s[i]);

	s[0] = series("open + close /dev/iommu");
	for (i = 0; i < times(2000); i++)
		if (TIMED(s[0], open_close()))
			break;
	row(s[0]);

	s[0] = series("IOAS_ALLOC");
	s[1] = series("DESTROY, empty IOAS");
	s[2] = series("IOAS_ALLOC + DESTROY");
	for (i = 0; i < times(2000); i++) {
		double start = now_us();

		if (TIMED(s[0], ioas_alloc(fd, &id)) || TIMED(s[1], destroy(fd, id)))
			break;
		add(s[2], now_us() - start);
	}
	for (i = 0; i < 3; i++)
		row(s[i]);
}

static void iova_ranges_row(uint32_t ioas)
{
	struct series *s = series("IOAS_IOVA_RANGES");
	struct iommu_iova_range ranges[8];
	int i;

	for (i = 0; i < times(2000); i++) {
		struct iommu_ioas_iova_ranges cmd = {
			.size = sizeof(cmd),
			.ioas_id = ioas,
			.num_iovas = 8,
			.allowed_iovas = (uintptr_t)ranges,
		};

		if (TIMED(s, ioctl(fd, IOMMU_IOAS_IOVA_RANGES, &cmd)))
			break;
	}
	row(s);
}

static void map_pair(const char *size, const char *what, uint32_t ioas, void *va, uint64_t length, uint64_t iova, int n)
{
	char names[2][80];
	struct series *maps, *unmaps;
	int i;

	snprintf(names[0], sizeof(names[0]), "IOAS_MAP %s, %s", size, what);
	snprintf(names[1], sizeof(names[1]), "IOAS_UNMAP %s, %s", size, what);
	maps = series(names[0]);
	unmaps = series(names[1]);
	for (i = 0; i < n; i++)
		if (TIMED(maps, map_fixed(fd, ioas, va, length, iova)) || TIMED(unmaps, unmap(fd, ioas, iova, length)))
			break;
	row(maps);
	row(unmaps);
}

static void map_rows(const char *what, uint32_t ioas)
{
	map_pair("4 KiB", what, ioas, buffer, 4 * KiB, BASE, times(2000));
	map_pair("2 MiB", what, ioas, buffer, 2 * MiB, BASE, times(1000));
	if (max_map >= ALL_SIZES)
		map_pair("256 MiB", what, ioas, buffer, 256 * MiB, BASE, times(100));
}

// Nothing is pinned before a domain needs it, so memory that could not be pinned can be mapped.
static void huge_map_rows(uint32_t ioas)
{
	void *va = mmap(NULL, 1024 * GiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (va == MAP_FAILED) {
		printf("IOAS_MAP 1 TiB, no domain\tn/a\tmmap: %s\n", strerror(errno));
		return;
	}
	map_pair("1 TiB", "no domain", ioas, va, 1024 * GiB, 1UL << 40, times(1000));
	munmap(va, 1024 * GiB);
}

static void picked_iova_rows(uint32_t ioas)
{
	struct series *maps = series("IOAS_MAP 4 KiB, IOVA picked, 0..1000 areas");
	struct series *unmap_all = series("IOAS_UNMAP all, 1000 areas");
	int i, round;

	for (round = 0; round < 5; round++) {
		for (i = 0; i < 1000; i++) {
			struct iommu_ioas_map cmd = {
				.size = sizeof(cmd),
				.flags = READ_WRITE,
				.ioas_id = ioas,
				.user_va = (uintptr_t)(buffer + i % 512 * 4 * KiB),
				.length = 4 * KiB,
			};

			if (TIMED(maps, ioctl(fd, IOMMU_IOAS_MAP, &cmd)))
				break;
		}
		if (TIMED(unmap_all, unmap(fd, ioas, 0, UINT64_MAX)))
			break;
	}
	row(maps);
	row(unmap_all);
}

static void copy_row(uint32_t ioas)
{
	struct series *s = series("IOAS_COPY 2 MiB, from a mock domain");
	uint32_t to;
	int i;

	ioas_alloc(fd, &to);
	for (i = 0; i < times(1000); i++) {
		struct iommu_ioas_copy cmd = {
			.size = sizeof(cmd),
			.flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
			.dst_ioas_id = to,
			.src_ioas_id = ioas,
			.length = 2 * MiB,
			.dst_iova = BASE,
			.src_iova = BASE,
		};

		if (TIMED(s, ioctl(fd, IOMMU_IOAS_COPY, &cmd)) || unmap(fd, to, BASE, 2 * MiB))
			break;
	}
	destroy(fd, to);
	row(s);
}

// An access is a user inside the kernel that reads and writes what is mapped.
static void access_rows(uint32_t ioas)
{
	static const struct {
		const char *name;
		uint64_t length;
	} sizes[] = { { "access_rw read 8 B", 8 }, { "access_rw read 4 KiB", 4 * KiB }, { "access_rw read 64 KiB", 64 * KiB } };
	static char bytes[64 * KiB];
	struct iommu_test_cmd create = { .op = IOMMU_TEST_OP_CREATE_ACCESS, .id = ioas };
	int created = test_cmd(&create);
	size_t k;
	int i;

	for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		struct series *s = series(sizes[k].name);

		s->error = created ? errno : 0;
		for (i = 0; !created && i < times(1000); i++) {
			struct iommu_test_cmd cmd = {
				.op = IOMMU_TEST_OP_ACCESS_RW,
				.id = create.create_access.out_access_fd,
				.access_rw = { .iova = BASE + 4 * KiB, .length = sizes[k].length, .uptr = (uintptr_t)bytes },
			};

			if (TIMED(s, test_cmd(&cmd)))
				break;
		}
		row(s);
	}
	if (!created)
		close(create.create_access.out_access_fd);
}

static void hw_info_row(uint32_t idev)
{
	struct series *s = series("GET_HW_INFO");
	struct iommu_test_hw_info info;
	int i;

	for (i = 0; i < times(1000); i++) {
		struct iommu_hw_info cmd = {
			.size = sizeof(cmd),
			.dev_id = idev,
			.data_len = sizeof(info),
			.data_uptr = (uintptr_t)&info,
		};

		if (TIMED(s, ioctl(fd, IOMMU_GET_HW_INFO, &cmd)))
			break;
	}
	row(s);
}

static void hwpt_rows(const char *alloc, const char *free_, struct iommu_hwpt_alloc cmd)
{
	struct series *allocs = series(alloc), *frees = series(free_);
	uint32_t id;
	int i;

	for (i = 0; i < times(500); i++)
		if (TIMED(allocs, hwpt_alloc(cmd, &id)) || TIMED(frees, destroy(fd, id)))
			break;
	row(allocs);
	row(frees);
}

static void replace_rows(const struct mock *mock)
{
	struct iommu_hwpt_alloc paging = { .dev_id = mock->idev, .pt_id = mock->ioas };
	struct series *s = series("replace HWPT by HWPT, same IOAS");
	uint32_t id[2] = { 0 }, other;
	int i;

	if (hwpt_alloc(paging, &id[0]) || hwpt_alloc(paging, &id[1]))
		s->error = errno;
	for (i = 0; !s->error && i < times(1000); i++)
		if (TIMED(s, mock_replace(mock->stdev, id[i % 2])))
			break;
	row(s);
	mock_replace(mock->stdev, mock->ioas);
	destroy(fd, id[0]);
	destroy(fd, id[1]);

	s = series("replace IOAS by IOAS");
	ioas_alloc(fd, &other);
	for (i = 0; i < times(1000); i++)
		if (TIMED(s, mock_replace(mock->stdev, i % 2 ? mock->ioas : other)))
			break;
	row(s);
	mock_replace(mock->stdev, mock->ioas);
	destroy(fd, other);
}

static void mock_device_rows(uint32_t ioas)
{
	struct series *creates = series("mock device: create, bind, attach");
	struct series *destroys = series("mock device: detach, destroy");
	struct mock mock = { .ioas = ioas };
	int i;

	for (i = 0; i < times(300); i++)
		if (TIMED(creates, mock_create(&mock)) || TIMED(destroys, destroy(fd, mock.stdev)))
			break;
	row(creates);
	row(destroys);
}

static void invalidate_rows(uint32_t nested)
{
	static struct iommu_hwpt_invalidate_selftest entries[64];
	static const char *const names[] = { "HWPT_INVALIDATE 1 entry", "HWPT_INVALIDATE 64 entries" };
	int i, k;

	for (i = 0; i < 64; i++)
		entries[i].iotlb_id = i % MOCK_NESTED_DOMAIN_IOTLB_NUM;
	for (k = 0; k < 2; k++) {
		struct series *s = series(names[k]);

		for (i = 0; i < times(1000); i++) {
			struct iommu_hwpt_invalidate cmd = {
				.size = sizeof(cmd),
				.hwpt_id = nested,
				.data_uptr = (uintptr_t)entries,
				.data_type = IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
				.entry_len = sizeof(entries[0]),
				.entry_num = k ? 64 : 1,
			};

			if (TIMED(s, ioctl(fd, IOMMU_HWPT_INVALIDATE, &cmd)))
				break;
		}
		row(s);
	}
}

static int trigger_fault(uint32_t idev)
{
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_TRIGGER_IOPF,
		.trigger_iopf = {
			.dev_id = idev,
			.pasid = 1,
			.grpid = 2,
			.perm = IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE,
			.addr = 0xdeadb000,
		},
	};

	return test_cmd(&cmd);
}

static int read_fault(int queue, uint32_t *cookie)
{
	struct iommu_hwpt_pgfault fault;
	struct pollfd poller = { .fd = queue, .events = POLLIN };

	if (poll(&poller, 1, 2000) != 1) {
		errno = ETIMEDOUT;
		return -1;
	}
	if (read(queue, &fault, sizeof(fault)) != sizeof(fault))
		return -1;
	*cookie = fault.cookie;
	return 0;
}

static int answer_fault(int queue, uint32_t cookie)
{
	struct iommu_hwpt_page_response answer = { .cookie = cookie, .code = IOMMUFD_PAGE_RESP_SUCCESS };

	return write(queue, &answer, sizeof(answer)) == sizeof(answer) ? 0 : -1;
}

static void fault_rows(const struct mock *mock, struct iommu_hwpt_alloc nested)
{
	struct series *s[] = {
		series("page fault round trip"),
		series("  of which the trigger"),
		series("  of which poll and read"),
		series("  of which the response"),
	};
	struct iommu_fault_alloc queue = { .size = sizeof(queue) };
	uint32_t hwpt = 0, cookie = 0;
	int i;

	if (ioctl(fd, IOMMU_FAULT_QUEUE_ALLOC, &queue)) {
		s[0]->error = errno;
	} else {
		nested.flags |= IOMMU_HWPT_FAULT_ID_VALID;
		nested.fault_id = queue.out_fault_id;
		if (hwpt_alloc(nested, &hwpt) || mock_replace(mock->stdev, hwpt))
			s[0]->error = errno;
	}
	for (i = 0; !s[0]->error && i < times(2000); i++) {
		double start = now_us();

		if (TIMED(s[1], trigger_fault(mock->idev)) || TIMED(s[2], read_fault(queue.out_fault_fd, &cookie)) ||
		    TIMED(s[3], answer_fault(queue.out_fault_fd, cookie)))
			s[0]->error = errno;
		else
			add(s[0], now_us() - start);
	}
	for (i = 0; i < 4; i++)
		row(s[i]);
	mock_replace(mock->stdev, mock->ioas);
	if (hwpt)
		destroy(fd, hwpt);
	if (queue.out_fault_id) {
		close(queue.out_fault_fd);
		destroy(fd, queue.out_fault_id);
	}
}

static void viommu_row(const struct mock *mock, uint32_t parent)
{
	struct series *s = series("VIOMMU_ALLOC + DESTROY");
	struct iommu_viommu_selftest data = { .in_data = 7 };
	int i;

	for (i = 0; i < times(300); i++) {
		struct iommu_viommu_alloc cmd = {
			.size = sizeof(cmd),
			.type = IOMMU_VIOMMU_TYPE_SELFTEST,
			.dev_id = mock->idev,
			.hwpt_id = parent,
			.data_uptr = (uintptr_t)&data,
			.data_len = sizeof(data),
		};

		if (TIMED(s, ioctl(fd, IOMMU_VIOMMU_ALLOC, &cmd) || destroy(fd, cmd.out_viommu_id) ? -1 : 0))
			break;
	}
	row(s);
}

static void nested_rows(const struct mock *mock)
{
	struct iommu_hwpt_selftest data = { .iotlb = IOMMU_TEST_IOTLB_DEFAULT };
	struct iommu_hwpt_alloc parent = {
		.dev_id = mock->idev,
		.pt_id = mock->ioas,
		.flags = IOMMU_HWPT_ALLOC_NEST_PARENT,
	};
	struct iommu_hwpt_alloc nested = {
		.dev_id = mock->idev,
		.data_type = IOMMU_HWPT_DATA_SELFTEST,
		.data_len = sizeof(data),
		.data_uptr = (uintptr_t)&data,
	};
	uint32_t parent_id, nested_id;

	if (hwpt_alloc(parent, &parent_id)) {
		printf("HWPT_ALLOC nest parent\tn/a\t%s\n", strerror(errno));
		return;
	}
	nested.pt_id = parent_id;
	hwpt_rows("HWPT_ALLOC nested", "DESTROY nested HWPT", nested);
	if (hwpt_alloc(nested, &nested_id)) {
		printf("HWPT_INVALIDATE 64 entries\tn/a\tHWPT_ALLOC nested: %s\n", strerror(errno));
	} else {
		invalidate_rows(nested_id);
		destroy(fd, nested_id);
	}
	fault_rows(mock, nested);
	viommu_row(mock, parent_id);
	destroy(fd, parent_id);
}

static void dirty_row(const struct mock *mock)
{
	struct series *s = series("GET_DIRTY_BITMAP 2 MiB");
	struct iommu_hwpt_alloc cmd = {
		.dev_id = mock->idev,
		.pt_id = mock->ioas,
		.flags = IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
	};
	static uint64_t bitmap[8];
	uint32_t id;
	int i;

	if (hwpt_alloc(cmd, &id)) {
		s->error = errno;
	} else {
		struct iommu_hwpt_set_dirty_tracking set = {
			.size = sizeof(set),
			.flags = IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
			.hwpt_id = id,
		};

		map_fixed(fd, mock->ioas, buffer, 2 * MiB, BASE);
		if (ioctl(fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set))
			s->error = errno;
		for (i = 0; !s->error && i < times(300); i++) {
			struct iommu_hwpt_get_dirty_bitmap get = {
				.size = sizeof(get),
				.hwpt_id = id,
				.iova = BASE,
				.length = 2 * MiB,
				.page_size = 4 * KiB,
				.data = (uintptr_t)bitmap,
			};

			TIMED(s, ioctl(fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get));
		}
		unmap(fd, mock->ioas, BASE, 2 * MiB);
		destroy(fd, id);
	}
	row(s);
}

static void device_rows(uint32_t ioas)
{
	struct mock mock = { .ioas = ioas };
	struct iommu_hwpt_alloc paging;

	if (mock_create(&mock)) {
		printf("mock device: create, bind, attach\tn/a\t%s\n", strerror(errno));
		map_fixed(fd, ioas, buffer, 2 * MiB, BASE);
		access_rows(ioas); // needs no device
		return;
	}
	map_rows("mock domain", ioas);
	map_fixed(fd, ioas, buffer, 2 * MiB, BASE);
	copy_row(ioas);
	access_rows(ioas);
	hw_info_row(mock.idev);
	paging = (struct iommu_hwpt_alloc){ .dev_id = mock.idev, .pt_id = ioas };
	hwpt_rows("HWPT_ALLOC, 2 MiB mapped", "DESTROY HWPT, 2 MiB mapped", paging);
	replace_rows(&mock);
	unmap(fd, ioas, BASE, 2 * MiB);
	hwpt_rows("HWPT_ALLOC, empty IOAS", "DESTROY HWPT, empty IOAS", paging);
	mock_device_rows(ioas);
	nested_rows(&mock);
	dirty_row(&mock);
	destroy(fd, mock.stdev);
}

int main(int argc, char **argv)
{
	uint32_t ioas;
	int option;

	while ((option = getopt(argc, argv, "n:s")) > 0) {
		if (option == 'n')
			percent = atoi(optarg);
		if (option == 's')
			max_map = 2 * MiB;
	}
	fd = open_iommu();
	buffer = mmap(NULL, max_map, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (buffer == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	plain_rows();
	if (ioas_alloc(fd, &ioas)) {
		perror("IOAS_ALLOC");
		return 1;
	}
	iova_ranges_row(ioas);
	map_rows("no domain", ioas);
	huge_map_rows(ioas);
	picked_iova_rows(ioas);
	device_rows(ioas);
	return 0;
}
