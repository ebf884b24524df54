// SPDX-License-Identifier: Apache-2.0
// MAP and UNMAP of one page in an address space that already has 10^3, 10^4, ... areas: what a call costs must grow
// with their logarithm and no faster. Usage: areas [-m MAX_AREAS] [-w]
//   -w: waits for a line on standard input after each row, so that whoever reads can look at the server's memory
#include "bench.h"

// Areas of one page with a hole of one page after each, so that there is always room between two of them.
#define STRIDE (8 * KiB)
#define BASE (1UL << 32)

static uint64_t state = 1;

static uint64_t random_below(uint64_t limit)
{
	state = state * 6364136223846793005UL + 1442695040888963407UL;
	return (state >> 33) % limit;
}

static void handshake(int wait)
{
	char line[16];

	if (wait && !fgets(line, sizeof(line), stdin))
		exit(1);
}

int main(int argc, char **argv)
{
	uint64_t max = 1000000, areas = 0, goal;
	int fd = open_iommu(), wait = 0, option, i;
	void *page = mmap(NULL, 4 * KiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t ioas;

	while ((option = getopt(argc, argv, "m:w")) > 0) {
		if (option == 'm')
			max = strtoull(optarg, NULL, 0);
		if (option == 'w')
			wait = 1;
	}
	if (page == MAP_FAILED || ioas_alloc(fd, &ioas)) {
		perror("setup");
		return 1;
	}
	for (goal = 1000; goal <= max; goal *= 10) {
		static char names[2][64];
		struct series *maps, *unmaps;

		snprintf(names[0], sizeof(names[0]), "IOAS_MAP with %lu areas", goal);
		snprintf(names[1], sizeof(names[1]), "IOAS_UNMAP with %lu areas", goal);
		for (; areas < goal; areas++) {
			if (map_fixed(fd, ioas, page, 4 * KiB, BASE + areas * STRIDE)) {
				printf("%s\tn/a\t%s\n", names[0], strerror(errno));
				return 0;
			}
		}
		maps = series(names[0]);
		unmaps = series(names[1]);
		for (i = 0; i < 2000; i++) {
			uint64_t hole = BASE + random_below(areas) * STRIDE + 4 * KiB;

			if (TIMED(maps, map_fixed(fd, ioas, page, 4 * KiB, hole)) || TIMED(unmaps, unmap(fd, ioas, hole, 4 * KiB)))
				break;
		}
		row(maps);
		row(unmaps);
		handshake(wait);
	}
	return 0;
}
