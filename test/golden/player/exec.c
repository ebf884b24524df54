// SPDX-License-Identifier: Apache-2.0
/*
 * exec.c - script executor for differential testing of the iommufd UAPI.
 *
 * usage: exec SCRIPT          (results on stdout, one line per op)
 *        exec -l              (list ops)
 *
 * Build: gcc -O2 -static -I <uapi include> -I <dir of iommufd_test.h> exec.c
 *
 * A user-space implementation can be put under the executor by overriding the
 * weak dev_*() functions below (link another object), or by LD_PRELOAD with a
 * non-static build.
 *
 * Script format: one op a line, "#" comments.  "op key=value key=value ..."
 *   value  := term { ('+'|'-') term }
 *   term   := integer | $N | $N.out | BUF      (BUF: SH PR MF MR RO HO HG SC XX)
 *   $N refers to the output of op number N (0 based, comments not counted).
 *   A reference to an output that does not exist (the op failed) gives
 *   0xdead0000, or -1 for the keys "fd" and "acc".
 * Modifiers of every ioctl op:
 *   sz=N      value of the leading size field (default sizeof)
 *   tail=zN   struct followed by N zero bytes, size grows by N
 *   tail=nN   the same but the last byte is 1
 *   ptr=null|bad|ro|edge|cut   where the struct lives (ro: readable only;
 *             edge: ends at the end of mapped memory; cut: last 4 bytes missing)
 *   fork=1    issue the ioctl in a forked child (which exits afterwards)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include "iommufd_test.h"

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define PG 4096ul

/* ---- device access, overridable ------------------------------------- */
__attribute__((weak)) int dev_open(void)
{
	return open("/dev/iommu", O_RDWR | O_CLOEXEC);
}
__attribute__((weak)) int dev_ioctl(int fd, unsigned long cmd, unsigned long arg)
{
	return ioctl(fd, cmd, arg);
}
__attribute__((weak)) ssize_t dev_read(int fd, void *p, size_t n)
{
	return read(fd, p, n);
}
__attribute__((weak)) ssize_t dev_pread(int fd, void *p, size_t n, off_t o)
{
	return pread(fd, p, n, o);
}
__attribute__((weak)) ssize_t dev_write(int fd, const void *p, size_t n)
{
	return write(fd, p, n);
}
__attribute__((weak)) int dev_poll(struct pollfd *p)
{
	return poll(p, 1, 0);
}
__attribute__((weak)) void *dev_mmap(void *a, size_t l, int pr, int fl, int fd, off_t o)
{
	return mmap(a, l, pr, fl, fd, o);
}
__attribute__((weak)) int dev_munmap(void *a, size_t l)
{
	return munmap(a, l);
}
__attribute__((weak)) int dev_close(int fd)
{
	return close(fd);
}

/* ---- user memory ------------------------------------------------------ */
struct ubuf {
	const char *name;
	u64 addr, size;
};
static struct ubuf bufs[] = {
	{ "SH", 0x1000000000, 64 * PG },  /* anonymous shared */
	{ "PR", 0x1001000000, 64 * PG },  /* anonymous private */
	{ "MF", 0x1002000000, 64 * PG },  /* memfd "mf", shared rw */
	{ "MR", 0x1002800000, 64 * PG },  /* the same memfd, shared, read only */
	{ "RO", 0x1003000000, 16 * PG },  /* anonymous private, read only */
	{ "HO", 0x1004000000, 32 * PG },  /* anonymous private, pages 8..11 unmapped */
	{ "HG", 0x1010000000, 4ul << 20 },/* hugetlb memfd "hf", shared, 2 pages */
	{ "SC", 0x1020000000, 1ul << 20 },/* scratch for out arrays/bitmaps */
	{ "XX", 0x1030000000, 0 },        /* nothing mapped */
	{ 0 }
};
enum { B_SH, B_PR, B_MF, B_MR, B_RO, B_HO, B_HG, B_SC, B_XX };
static u8 *SC;
static u8 *arena;		/* 3 pages: rw, rw, PROT_NONE (shared with children) */
static u8 *arena_ro;		/* read only alias of the first arena page */
static int fd_mf = -1, fd_ms = -1, fd_hf = -1, fd_null = -1, fd_ro = -1,
	   fd_tmp = -1, fd_pipe = -1, fd_seal = -1;

static sigjmp_buf segv_env;
static volatile int segv_on;
static void on_segv(int s)
{
	if (segv_on)
		siglongjmp(segv_env, 1);
	signal(s, SIG_DFL);
	raise(s);
}

static u64 fnv(const void *p, size_t n, u64 h)
{
	const volatile u8 *b = p;
	while (n--) {
		h ^= *b++;
		h *= 0x100000001b3ull;
	}
	return h;
}
#define FNV0 0xcbf29ce484222325ull

/* hash of user memory, page by page, unreadable pages hash as a constant */
static u64 hash_mem(u64 va, u64 len, u64 *bad)
{
	volatile u64 h = FNV0;
	volatile u64 cur = va, end = va + len;

	*bad = 0;
	while (cur < end) {
		volatile u64 n = PG - (cur & (PG - 1));
		if (n > end - cur)
			n = end - cur;
		segv_on = 1;
		if (sigsetjmp(segv_env, 1) == 0) {
			h = fnv((void *)(uintptr_t)cur, n, h);
		} else {
			h = fnv("BAD", 3, h);
			(*bad)++;
		}
		segv_on = 0;
		cur += n;
	}
	return h;
}

static void pattern(u64 va, u64 len, u64 seed)
{
	u64 i, x = seed * 0x9e3779b97f4a7c15ull + 12345;
	for (i = 0; i + 8 <= len; i += 8) {
		x ^= x << 13; x ^= x >> 7; x ^= x << 17;
		*(u64 *)(uintptr_t)(va + i) = x;
	}
}

static void *fixed(u64 a, u64 l, int prot, int fl, int fd)
{
	void *p = mmap((void *)(uintptr_t)a, l, prot, fl | MAP_FIXED_NOREPLACE, fd, 0);
	if (p == MAP_FAILED) {
		printf("SETUP mmap %llx failed %d\n", (unsigned long long)a, errno);
		exit(2);
	}
	return p;
}

static int memfd(const char *n, unsigned fl)
{
	return syscall(SYS_memfd_create, n, fl);
}

static void setup_mem(void)
{
	struct ubuf *b = bufs;
	char path[64];
	int pfd[2], afd;

	fixed(b[B_SH].addr, b[B_SH].size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	fixed(b[B_PR].addr, b[B_PR].size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	madvise((void *)b[B_PR].addr, b[B_PR].size, MADV_NOHUGEPAGE);
	fd_mf = memfd("mf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (ftruncate(fd_mf, b[B_MF].size))
		exit(2);
	fixed(b[B_MF].addr, b[B_MF].size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_mf);
	fixed(b[B_RO].addr, b[B_RO].size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	madvise((void *)b[B_RO].addr, b[B_RO].size, MADV_NOHUGEPAGE);
	fixed(b[B_HO].addr, b[B_HO].size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	madvise((void *)b[B_HO].addr, b[B_HO].size, MADV_NOHUGEPAGE);
	fd_hf = memfd("hf", MFD_CLOEXEC | MFD_HUGETLB | (21 << 26));
	if (fd_hf >= 0 && ftruncate(fd_hf, b[B_HG].size) == 0 &&
	    mmap((void *)b[B_HG].addr, b[B_HG].size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED_NOREPLACE, fd_hf, 0) != MAP_FAILED) {
		/* real huge pages */
	} else {
		fd_hf = memfd("hf", MFD_CLOEXEC);
		if (ftruncate(fd_hf, b[B_HG].size))
			exit(2);
		fixed(b[B_HG].addr, b[B_HG].size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_hf);
		printf("SETUP nohuge\n");
	}
	SC = fixed(b[B_SC].addr, b[B_SC].size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	pattern(b[B_SH].addr, b[B_SH].size, 1);
	pattern(b[B_PR].addr, b[B_PR].size, 2);
	pattern(b[B_MF].addr, b[B_MF].size, 3);
	pattern(b[B_RO].addr, b[B_RO].size, 4);
	pattern(b[B_HO].addr, b[B_HO].size, 5);
	pattern(b[B_HG].addr, 65536, 6);
	pattern(b[B_HG].addr + (2 << 20), 65536, 7);
	mprotect((void *)b[B_RO].addr, b[B_RO].size, PROT_READ);
	munmap((void *)(b[B_HO].addr + 8 * PG), 4 * PG);
	fixed(b[B_MR].addr, b[B_MR].size, PROT_READ, MAP_SHARED, fd_mf);

	fd_ms = memfd("ms", MFD_CLOEXEC);
	if (ftruncate(fd_ms, 2 * PG + 2048))
		exit(2);
	fd_seal = memfd("seal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (ftruncate(fd_seal, 8 * PG))
		exit(2);
	fcntl(fd_seal, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd_mf);
	fd_ro = open(path, O_RDONLY | O_CLOEXEC);
	fd_null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (pipe2(pfd, O_CLOEXEC) == 0)
		fd_pipe = pfd[0];
	/* on tmpfs, as where the answers were recorded */
	snprintf(path, sizeof(path), "%s/.iommufd-script.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", getpid());
	fd_tmp = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unlink(path);
	if (fd_tmp >= 0 && ftruncate(fd_tmp, 8 * PG))
		exit(2);

	afd = memfd("arena", MFD_CLOEXEC);
	if (ftruncate(afd, 2 * PG))
		exit(2);
	arena = mmap((void *)0x1040000000, 3 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	mmap(arena, 2 * PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, afd, 0);
	arena_ro = mmap((void *)0x1041000000, PG, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, afd, 0);
}

/* ---- script state ---------------------------------------------------- */
#define MAXOPS 4096
struct outv { char name[16]; u64 v; };
static struct res { int n; struct outv o[24]; } *res;
static int idx;
static char out[65536];
static size_t outn;

static void P(const char *f, ...)
{
	va_list a;
	va_start(a, f);
	outn += vsnprintf(out + outn, sizeof(out) - outn, f, a);
	if (outn >= sizeof(out))
		outn = sizeof(out) - 1;
	va_end(a);
}
static void setout(const char *n, u64 v)
{
	struct res *r = &res[idx];
	if (r->n < 24) {
		snprintf(r->o[r->n].name, sizeof(r->o[0].name), "%s", n);
		r->o[r->n++].v = v;
	}
}

static char *argk[64], *argv_[64];
static int nargs;
static const char *S(const char *k)
{
	int i;
	for (i = 0; i < nargs; i++)
		if (!strcmp(argk[i], k))
			return argv_[i];
	return NULL;
}

static u64 eval(const char *s, int isfd)
{
	u64 tot = 0;
	int neg = 0;

	while (*s) {
		u64 v = 0;
		if (*s == '+') { neg = 0; s++; continue; }
		if (*s == '-') { neg = 1; s++; continue; }
		if (*s == '$') {
			char nm[16] = "";
			char *e;
			unsigned n = strtoul(s + 1, &e, 10);
			int i, ok = 0;
			s = e;
			if (*s == '.') {
				unsigned j = 0;
				s++;
				while (*s && *s != '+' && *s != '-' && *s != ':' && *s != ',') {
					if (j < sizeof(nm) - 1)
						nm[j++] = *s;
					s++;
				}
				nm[j] = 0;
			}
			if (n < MAXOPS)
				for (i = 0; i < res[n].n; i++)
					if (!nm[0] || !strcmp(nm, res[n].o[i].name)) {
						v = res[n].o[i].v;
						ok = 1;
						break;
					}
			if (!ok)
				v = isfd ? (u64)-1 : 0xdead0000;
		} else if (*s >= 'A' && *s <= 'Z') {
			struct ubuf *b;
			for (b = bufs; b->name; b++)
				if (!strncmp(s, b->name, 2))
					v = b->addr;
			s += 2;
		} else if (*s >= '0' && *s <= '9') {
			char *e;
			v = strtoull(s, &e, 0);
			s = e;
		} else {
			break;
		}
		tot = neg ? tot - v : tot + v;
		neg = 0;
	}
	return tot;
}
static u64 A(const char *k, u64 d)
{
	const char *s = S(k);
	return s ? eval(s, !strcmp(k, "fd") || !strcmp(k, "acc")) : d;
}

static const char *en(int e)
{
	static char t[16];
	switch (e) {
	case 0: return "OK";
#define E(x) case x: return #x;
	E(EPERM) E(ENOENT) E(EINTR) E(EIO) E(ENXIO) E(E2BIG) E(EBADF) E(EAGAIN)
	E(ENOMEM) E(EACCES) E(EFAULT) E(EBUSY) E(EEXIST) E(ENODEV) E(EINVAL)
	E(ENFILE) E(EMFILE) E(ENOTTY) E(EFBIG) E(ENOSPC) E(ESPIPE) E(EROFS)
	E(EPIPE) E(EDOM) E(ERANGE) E(EDEADLK) E(ENOSYS) E(EOVERFLOW) E(EBADFD)
	E(EBADE) E(EMSGSIZE) E(EOPNOTSUPP) E(EADDRINUSE) E(ETIMEDOUT) E(ENOTUNIQ)
	E(ENODATA) E(EBADR) E(EPROTO)
	}
	snprintf(t, sizeof(t), "E%d", e);
	return t;
}

#define NCTX 4
static int ctx[NCTX] = { -1, -1, -1, -1 };
static int cc;
#define FD ctx[cc]

/* PASIDs known attached: must be detached before the mock device goes away */
static struct { int used, c; u32 stdev, pasid; } pas[256];
static int pas_detach_fd(int fd, u32 stdev, u32 pasid)
{
	struct iommu_test_cmd c = { .size = sizeof(c), .op = IOMMU_TEST_OP_PASID_DETACH, .id = stdev };
	c.pasid_detach.pasid = pasid;
	return dev_ioctl(fd, IOMMU_TEST_CMD, (unsigned long)&c);
}
static int pas_clean(int c, u32 stdev, int any)
{
	int i, n = 0;
	for (i = 0; i < 256; i++)
		if (pas[i].used && pas[i].c == c && (any || pas[i].stdev == stdev)) {
			pas_detach_fd(ctx[c], pas[i].stdev, pas[i].pasid);
			pas[i].used = 0;
			n++;
		}
	return n;
}

/* ---- ioctl with modifiers ---------------------------------------------- */
static int last_touched, last_oob;
static void copy_to_edge(u8 *p, const void *st, size_t n)
{
	memcpy(p, st, n);
}

static int xioctl(unsigned long cmd, void *st, size_t n)
{
	u8 before[512];
	u8 *p = arena, *w = arena;
	unsigned long arg;
	const char *s, *ptr = S("ptr");
	size_t total = n;
	int ret, e;

	last_touched = last_oob = 0;
	if ((s = S("tail"))) {
		total = n + strtoul(s + 1, NULL, 0);
		if (total > PG)
			total = PG;
	}
	if (ptr && !strcmp(ptr, "edge"))
		p = w = arena + 2 * PG - total;
	memset(arena, 0xa5, 2 * PG);
	if (total > n)
		memset(w + n, 0, total - n);
	copy_to_edge(w, st, n);
	if (total > n && s[0] == 'n')
		w[total - 1] = 1;
	*(u32 *)w = total;
	if (S("sz"))
		*(u32 *)w = A("sz", 0);
	arg = (unsigned long)p;
	if (ptr) {
		if (!strcmp(ptr, "null"))
			arg = 0;
		else if (!strcmp(ptr, "bad"))
			arg = bufs[B_XX].addr;
		else if (!strcmp(ptr, "ro"))
			arg = (unsigned long)arena_ro;
		else if (!strcmp(ptr, "cut")) {
			size_t k = total > 4 ? total - 4 : total;
			p = arena + 2 * PG - k;
			memmove(p, w, k);
			arg = (unsigned long)p;
			w = p;
		}
	}
	memcpy(before, w, n < 512 ? (w + n <= arena + 2 * PG ? n : (size_t)(arena + 2 * PG - w)) : 512);
	if (A("fork", 0)) {
		/* result through the scratch page tail, the arena is shared */
		volatile int *sh = (int *)(SC + bufs[B_SC].size - 64);
		pid_t pid;
		fflush(stdout);
		sh[0] = 0x7777;
		pid = fork();
		if (pid == 0) {
			int r = dev_ioctl(FD, cmd, arg);
			sh[1] = errno;
			sh[0] = r;
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		ret = sh[0];
		e = sh[1];
		sh[0] = sh[1] = 0;
	} else {
		errno = 0;
		ret = dev_ioctl(FD, cmd, arg);
		e = errno;
	}
	if (!(ptr && (!strcmp(ptr, "null") || !strcmp(ptr, "bad") || !strcmp(ptr, "cut")))) {
		size_t i, lim = (w + total + 64 <= arena + 2 * PG) ? 64 : 0;
		last_touched = memcmp(before, w, n) != 0;
		for (i = 0; i < lim; i++)
			if (w[total + i] != 0xa5)
				last_oob = 1;
		memcpy(st, w, n);
	}
	errno = e;
	return ret;
}

/* prints the standard head of the result; returns 1 if the op succeeded */
static int rhead(int ret, int e)
{
	if (ret < 0) {
		P(" ret=-1 %s", en(e));
		if (last_touched)
			P(" touched");
	} else {
		P(" ret=%d OK", ret);
	}
	if (last_oob)
		P(" OOB");
	return ret >= 0;
}

#define CALL(cmd, c) ({ int r_ = xioctl(cmd, &(c), sizeof(c)); rhead(r_, errno); })
static int fl_ptr_ok(void)
{
	const char *p = S("ptr");
	return !p || !strcmp(p, "edge");
}

static void tcall_init(struct iommu_test_cmd *c, u32 op)
{
	memset(c, 0, sizeof(*c));
	c->size = sizeof(*c);
	c->op = op;
	c->__reserved = A("rsvd", 0);
	c->last = A("last", 0);
}

static u64 dptr(const char *k, u64 dflt)
{
	const char *s = S(k);
	if (!s)
		return dflt;
	if (!strcmp(s, "null"))
		return 0;
	if (!strcmp(s, "bad"))
		return bufs[B_XX].addr;
	if (!strcmp(s, "ro"))
		return bufs[B_RO].addr;
	return eval(s, 0);
}

static void pr_bits(const u8 *p, size_t nbytes)
{
	u64 cnt = 0, shown = 0;
	size_t i;
	int b;
	P(" bits=");
	for (i = 0; i < nbytes; i++)
		for (b = 0; b < 8; b++)
			if (p[i] & (1 << b)) {
				if (shown < 6) {
					P("%s%zu", shown ? "," : "", i * 8 + b);
					shown++;
				}
				cnt++;
			}
	P(" n=%llu h=%08x", (unsigned long long)cnt, (u32)fnv(p, nbytes, FNV0));
}

static int filefd(const char *s)
{
	if (!s || !strcmp(s, "bad")) return -1;
	if (!strcmp(s, "mf")) return fd_mf;
	if (!strcmp(s, "ms")) return fd_ms;
	if (!strcmp(s, "hf")) return fd_hf;
	if (!strcmp(s, "ro")) return fd_ro;
	if (!strcmp(s, "null")) return fd_null;
	if (!strcmp(s, "pipe")) return fd_pipe;
	if (!strcmp(s, "tmp")) return fd_tmp;
	if (!strcmp(s, "seal")) return fd_seal;
	if (!strcmp(s, "io")) return FD;
	if (s[0] == '$') return (int)eval(s, 1);
	return 12345;
}

/* "a,b,c" of expressions, ':' separated tuples */
static int tuples(const char *s, u64 *v, int per, int max)
{
	int n = 0;
	while (s && *s && n < max) {
		char tmp[256];
		size_t l = strcspn(s, ",");
		char *q = tmp;
		int j;
		if (l >= sizeof(tmp))
			l = sizeof(tmp) - 1;
		memcpy(tmp, s, l);
		tmp[l] = 0;
		for (j = 0; j < per; j++) {
			char *e = q ? strchr(q, ':') : NULL;
			if (e)
				*e = 0;
			v[n * per + j] = q ? eval(q, 0) : 0;
			q = e ? e + 1 : NULL;
		}
		n++;
		s += l;
		if (*s == ',')
			s++;
	}
	return n;
}

/* ---- ops --------------------------------------------------------------- */
static void op_destroy(void)
{
	struct iommu_destroy c = { .id = A("id", 0) };
	int n = pas_clean(cc, c.id, 0);
	CALL(IOMMU_DESTROY, c);
	if (n)
		P(" autodetach=%d", n);
}
static void op_ioas_alloc(void)
{
	struct iommu_ioas_alloc c = { .flags = A("flags", 0), .out_ioas_id = A("junk", 0) };
	if (CALL(IOMMU_IOAS_ALLOC, c) && fl_ptr_ok()) {
		setout("ioas", c.out_ioas_id);
		P(" ioas=%u", c.out_ioas_id);
	}
}
static void op_ioas_ranges(void)
{
	struct iommu_ioas_iova_ranges c = { .ioas_id = A("ioas", 0), .num_iovas = A("n", 16),
		.__reserved = A("rsvd", 0), .allowed_iovas = dptr("arr", (u64)SC) };
	u32 i, n0 = c.num_iovas;
	struct iommu_iova_range *r = (void *)SC;
	int ok, e;
	memset(SC, 0x5a, 4096);
	ok = CALL(IOMMU_IOAS_IOVA_RANGES, c);
	e = errno;
	if ((ok || e == EMSGSIZE) && fl_ptr_ok()) {
		P(" num=%u align=%llu r=", c.num_iovas, (unsigned long long)c.out_iova_alignment);
		for (i = 0; i < c.num_iovas && i < n0 && i < 16 && !S("arr"); i++)
			P("%s%llx-%llx", i ? "," : "", (unsigned long long)r[i].start, (unsigned long long)r[i].last);
	}
	if (!S("arr"))
		for (i = 0; i < 4096; i++)
			if (SC[i] != 0x5a && i >= (n0 < c.num_iovas ? n0 : c.num_iovas) * sizeof(*r)) {
				P(" arr_oob");
				break;
			}
	memset(SC, 0, 4096);
}
static void op_ioas_allow(void)
{
	u64 v[64];
	struct iommu_iova_range *r = (void *)SC;
	int n = tuples(S("r"), v, 2, 32), i;
	struct iommu_ioas_allow_iovas c = { .ioas_id = A("ioas", 0), .num_iovas = A("n", n),
		.__reserved = A("rsvd", 0), .allowed_iovas = dptr("arr", (u64)SC) };
	for (i = 0; i < n; i++) {
		r[i].start = v[2 * i];
		r[i].last = v[2 * i + 1];
	}
	CALL(IOMMU_IOAS_ALLOW_IOVAS, c);
	memset(SC, 0, 1024);
}
static void op_ioas_map(void)
{
	struct iommu_ioas_map c = { .flags = A("flags", 0), .ioas_id = A("ioas", 0), .__reserved = A("rsvd", 0),
		.user_va = A("va", 0), .length = A("len", 0), .iova = A("iova", 0) };
	if (CALL(IOMMU_IOAS_MAP, c) && fl_ptr_ok()) {
		setout("iova", c.iova);
		P(" iova=%llx", (unsigned long long)c.iova);
	}
}
static void op_ioas_map_file(void)
{
	struct iommu_ioas_map_file c = { .flags = A("flags", 0), .ioas_id = A("ioas", 0),
		.fd = filefd(S("file")), .start = A("start", 0), .length = A("len", 0), .iova = A("iova", 0) };
	if (CALL(IOMMU_IOAS_MAP_FILE, c) && fl_ptr_ok()) {
		setout("iova", c.iova);
		P(" iova=%llx", (unsigned long long)c.iova);
	}
}
static void op_ioas_copy(void)
{
	struct iommu_ioas_copy c = { .flags = A("flags", 0), .dst_ioas_id = A("dst", 0), .src_ioas_id = A("src", 0),
		.length = A("len", 0), .dst_iova = A("diova", 0), .src_iova = A("siova", 0) };
	if (CALL(IOMMU_IOAS_COPY, c) && fl_ptr_ok()) {
		setout("iova", c.dst_iova);
		P(" iova=%llx", (unsigned long long)c.dst_iova);
	}
}
static void op_ioas_unmap(void)
{
	struct iommu_ioas_unmap c = { .ioas_id = A("ioas", 0), .iova = A("iova", 0), .length = A("len", 0) };
	if (CALL(IOMMU_IOAS_UNMAP, c) && fl_ptr_ok())
		P(" len=%llx", (unsigned long long)c.length);
}
static void op_option(void)
{
	struct iommu_option c = { .option_id = A("opt", 0), .op = A("op", 0), .__reserved = A("rsvd", 0),
		.object_id = A("obj", 0), .val64 = A("val", 0) };
	if (CALL(IOMMU_OPTION, c) && fl_ptr_ok())
		P(" val=%llu", (unsigned long long)c.val64);
}
static void op_vfio_ioas(void)
{
	struct iommu_vfio_ioas c = { .ioas_id = A("ioas", 0), .op = A("op", 0), .__reserved = A("rsvd", 0) };
	if (CALL(IOMMU_VFIO_IOAS, c) && fl_ptr_ok()) {
		if (c.op == IOMMU_VFIO_IOAS_GET)
			setout("ioas", c.ioas_id);
		P(" ioas=%u", c.ioas_id);
	}
}
static void op_hwpt_alloc(void)
{
	struct { struct iommu_hwpt_selftest d; u32 extra[6]; } *u = (void *)SC;
	u32 dtype = A("dtype", 0);
	struct iommu_hwpt_alloc c = { .flags = A("flags", 0), .dev_id = A("dev", 0), .pt_id = A("pt", 0),
		.__reserved = A("rsvd", 0), .data_type = dtype, .data_len = A("dlen", dtype ? sizeof(u->d) : 0),
		.data_uptr = dptr("dptr", dtype ? (u64)u : 0), .fault_id = A("fault", 0), .__reserved2 = A("rsvd2", 0) };
	memset(u, 0, sizeof(*u));
	u->d.iotlb = A("iotlb", IOMMU_TEST_IOTLB_DEFAULT);
	u->d.pagetable_type = A("pgtbl", 0);
	u->extra[0] = A("dtail", 0);
	if (CALL(IOMMU_HWPT_ALLOC, c) && fl_ptr_ok()) {
		setout("hwpt", c.out_hwpt_id);
		P(" hwpt=%u", c.out_hwpt_id);
	}
	memset(u, 0, sizeof(*u));
}
static void op_hw_info(void)
{
	u8 *u = SC;
	u64 bad;
	struct iommu_hw_info c = { .flags = A("flags", 0), .dev_id = A("dev", 0), .data_len = A("dlen", 8),
		.data_uptr = dptr("dptr", (u64)u), .in_data_type = A("dtype", 0) };
	u32 dl = c.data_len;
	c.__reserved[A("rsvd_i", 0) % 3] = A("rsvd", 0);
	c.out_capabilities = A("junk", 0);
	memset(u, 0x5a, 256);
	if (CALL(IOMMU_GET_HW_INFO, c) && fl_ptr_ok()) {
		P(" type=%x len=%u pasid=%u caps=%llx", c.out_data_type, c.data_len, c.out_max_pasid_log2,
		  (unsigned long long)c.out_capabilities);
		if (!S("dptr"))
			P(" data=%08x,%08x", ((u32 *)u)[0], ((u32 *)u)[1]);
	}
	P(" bufh=%08x", (u32)hash_mem((u64)u, 256, &bad));
	(void)dl;
	memset(u, 0, 256);
}
static void op_set_dirty(void)
{
	struct iommu_hwpt_set_dirty_tracking c = { .flags = A("flags", 0), .hwpt_id = A("hwpt", 0), .__reserved = A("rsvd", 0) };
	CALL(IOMMU_HWPT_SET_DIRTY_TRACKING, c);
}
static void op_get_dirty(void)
{
	u64 off = A("boff", 0);
	u8 *bm = SC + 65536;
	struct iommu_hwpt_get_dirty_bitmap c = { .hwpt_id = A("hwpt", 0), .flags = A("flags", 0), .__reserved = A("rsvd", 0),
		.iova = A("iova", 0), .length = A("len", 0), .page_size = A("pgsz", 4096),
		.data = dptr("bptr", (u64)(bm + off)) };
	int ok;
	memset(bm, 0, 65536);
	ok = CALL(IOMMU_HWPT_GET_DIRTY_BITMAP, c);
	(void)ok;
	if (!S("bptr"))
		pr_bits(bm, 65536);
	memset(bm, 0, 65536);
}
static void op_invalidate(void)
{
	u64 v[96];
	const char *s = S("e");
	u32 *d = (u32 *)SC;
	u32 elen = A("elen", 8), stride = elen / 4 ? elen / 4 : 1;
	int n = tuples(s, v, 3, 32), i;
	struct iommu_hwpt_invalidate c = { .hwpt_id = A("hwpt", 0), .data_uptr = dptr("dptr", (u64)SC),
		.data_type = A("dtype", IOMMU_HWPT_INVALIDATE_DATA_SELFTEST), .entry_len = elen,
		.entry_num = A("num", n), .__reserved = A("rsvd", 0) };
	memset(d, 0, 8192);
	if (stride > 16)
		stride = 16;
	for (i = 0; i < n; i++) {
		d[i * stride] = v[3 * i];
		if (stride > 1)
			d[i * stride + 1] = v[3 * i + 1];
		if (stride > 2)
			d[i * stride + 2] = v[3 * i + 2];
	}
	CALL(IOMMU_HWPT_INVALIDATE, c);
	if (fl_ptr_ok())
		P(" done=%u", c.entry_num);
	memset(d, 0, 8192);
}
static void op_fault_alloc(void)
{
	struct iommu_fault_alloc c = { .flags = A("flags", 0) };
	if (CALL(IOMMU_FAULT_QUEUE_ALLOC, c) && fl_ptr_ok()) {
		setout("fault", c.out_fault_id);
		setout("fd", c.out_fault_fd);
		P(" fault=%u fd=ok cloexec=%d", c.out_fault_id, fcntl(c.out_fault_fd, F_GETFD) == FD_CLOEXEC);
	}
}
static void op_viommu_alloc(void)
{
	struct iommu_viommu_selftest *u = (void *)SC;
	struct iommu_viommu_alloc c = { .flags = A("flags", 0), .type = A("type", IOMMU_VIOMMU_TYPE_SELFTEST),
		.dev_id = A("dev", 0), .hwpt_id = A("hwpt", 0), .data_len = A("dlen", 0), .__reserved = A("rsvd", 0),
		.data_uptr = dptr("dptr", A("dlen", 0) ? (u64)u : 0) };
	memset(u, 0, 256);
	u->in_data = A("in", 0);
	if (A("dtail", 0))
		((u8 *)u)[A("dlen", 1) - 1] = 1;
	if (CALL(IOMMU_VIOMMU_ALLOC, c) && fl_ptr_ok()) {
		setout("viommu", c.out_viommu_id);
		P(" viommu=%u", c.out_viommu_id);
		if (c.data_len && !S("dptr")) {
			setout("moff", u->out_mmap_offset);
			setout("mlen", u->out_mmap_length);
			P(" out=%x moff=%llx mlen=%llx", u->out_data, (unsigned long long)u->out_mmap_offset,
			  (unsigned long long)u->out_mmap_length);
		}
	}
	memset(u, 0, 256);
}
static void op_vdevice_alloc(void)
{
	struct iommu_vdevice_alloc c = { .viommu_id = A("viommu", 0), .dev_id = A("dev", 0), .virt_id = A("virt", 0) };
	if (CALL(IOMMU_VDEVICE_ALLOC, c) && fl_ptr_ok()) {
		setout("vdev", c.out_vdevice_id);
		P(" vdev=%u", c.out_vdevice_id);
	}
}
static void op_change_process(void)
{
	struct iommu_ioas_change_process c = { .__reserved = A("rsvd", 0) };
	CALL(IOMMU_IOAS_CHANGE_PROCESS, c);
}
static void op_veventq_alloc(void)
{
	struct iommu_veventq_alloc c = { .flags = A("flags", 0), .viommu_id = A("viommu", 0),
		.type = A("type", IOMMU_VEVENTQ_TYPE_SELFTEST), .veventq_depth = A("depth", 2), .__reserved = A("rsvd", 0) };
	if (CALL(IOMMU_VEVENTQ_ALLOC, c) && fl_ptr_ok()) {
		setout("veventq", c.out_veventq_id);
		setout("fd", c.out_veventq_fd);
		P(" veventq=%u fd=ok", c.out_veventq_id);
	}
}
static void op_hw_queue_alloc(void)
{
	struct iommu_hw_queue_alloc c = { .flags = A("flags", 0), .viommu_id = A("viommu", 0),
		.type = A("type", IOMMU_HW_QUEUE_TYPE_SELFTEST), .index = A("index", 0),
		.nesting_parent_iova = A("iova", 0), .length = A("len", 0) };
	if (CALL(IOMMU_HW_QUEUE_ALLOC, c) && fl_ptr_ok()) {
		setout("hwq", c.out_hw_queue_id);
		P(" hwq=%u", c.out_hw_queue_id);
	}
}

/* IOMMU_TEST_CMD */
static void t_reserved(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_ADD_RESERVED);
	c.id = A("ioas", 0);
	c.add_reserved.start = A("start", 0);
	c.add_reserved.length = A("len", 0);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_mock(void)
{
	struct iommu_test_cmd c;
	int fl = S("dflags") != NULL;
	tcall_init(&c, fl ? IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS : IOMMU_TEST_OP_MOCK_DOMAIN);
	c.id = A("pt", 0);
	if (fl)
		c.mock_domain_flags.dev_flags = A("dflags", 0);
	if (CALL(IOMMU_TEST_CMD, c) && fl_ptr_ok()) {
		setout("stdev", c.mock_domain.out_stdev_id);
		setout("hwpt", c.mock_domain.out_hwpt_id);
		setout("idev", c.mock_domain.out_idev_id);
		P(" stdev=%u hwpt=%u idev=%u", c.mock_domain.out_stdev_id, c.mock_domain.out_hwpt_id, c.mock_domain.out_idev_id);
	}
}
static void t_replace(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE);
	c.id = A("stdev", 0);
	c.mock_domain_replace.pt_id = A("pt", 0);
	if (CALL(IOMMU_TEST_CMD, c) && fl_ptr_ok()) {
		setout("hwpt", c.mock_domain_replace.pt_id);
		P(" hwpt=%u", c.mock_domain_replace.pt_id);
	}
}
static void t_check_map(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_MD_CHECK_MAP);
	c.id = A("hwpt", 0);
	c.check_map.iova = A("iova", 0);
	c.check_map.length = A("len", 0);
	c.check_map.uptr = A("va", 0);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_check_refs(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_MD_CHECK_REFS);
	c.check_refs.length = A("len", 4096);
	c.check_refs.uptr = A("va", 0);
	c.check_refs.refs = A("refs", 0);
	CALL(IOMMU_TEST_CMD, c);
}
/* find the pin count 0..9 of every page of a range by trying */
static void t_refs(void)
{
	u64 va = A("va", 0), len = A("len", 4096), o;
	unsigned r;
	P(" refs=");
	for (o = 0; o < len; o += PG) {
		char ch = '?';
		for (r = 0; r < 10; r++) {
			struct iommu_test_cmd c;
			tcall_init(&c, IOMMU_TEST_OP_MD_CHECK_REFS);
			c.check_refs.length = PG;
			c.check_refs.uptr = va + o;
			c.check_refs.refs = r;
			if (dev_ioctl(FD, IOMMU_TEST_CMD, (unsigned long)&c) == 0) {
				ch = '0' + r;
				break;
			}
			if (errno != EIO) {
				ch = errno == EFAULT ? 'F' : 'E';
				break;
			}
		}
		P("%c", ch);
	}
}
static void t_check_iotlb(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_MD_CHECK_IOTLB);
	c.id = A("hwpt", 0);
	c.check_iotlb.id = A("idx", 0);
	c.check_iotlb.iotlb = A("val", IOMMU_TEST_IOTLB_DEFAULT);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_check_cache(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_DEV_CHECK_CACHE);
	c.id = A("dev", 0);
	c.check_dev_cache.id = A("idx", 0);
	c.check_dev_cache.cache = A("val", IOMMU_TEST_DEV_CACHE_DEFAULT);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_access_create(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_CREATE_ACCESS);
	c.id = A("ioas", 0);
	c.create_access.flags = A("flags", 0);
	if (CALL(IOMMU_TEST_CMD, c) && fl_ptr_ok()) {
		setout("fd", c.create_access.out_access_fd);
		P(" fd=ok");
	}
}
static void t_access_replace(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_ACCESS_REPLACE_IOAS);
	c.id = A("acc", 0);
	c.access_replace_ioas.ioas_id = A("ioas", 0);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_access_pages(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_ACCESS_PAGES);
	c.id = A("acc", 0);
	c.access_pages.flags = A("flags", 0);
	c.access_pages.iova = A("iova", 0);
	c.access_pages.length = A("len", 0);
	c.access_pages.uptr = A("va", 0);
	if (CALL(IOMMU_TEST_CMD, c) && fl_ptr_ok()) {
		setout("item", c.access_pages.out_access_pages_id);
		P(" item=%u", c.access_pages.out_access_pages_id);
	}
}
static void t_access_unpin(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_DESTROY_ACCESS_PAGES);
	c.id = A("acc", 0);
	c.destroy_access_pages.access_pages_id = A("item", 0);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_access_rw(void)
{
	struct iommu_test_cmd c;
	u64 va = A("va", (u64)SC + 0x40000), len = A("len", 0), bad, l;
	u32 fl = A("flags", 0);
	int scratch = va >= (u64)SC && va < (u64)SC + bufs[B_SC].size;
	tcall_init(&c, IOMMU_TEST_OP_ACCESS_RW);
	c.id = A("acc", 0);
	c.access_rw.iova = A("iova", 0);
	c.access_rw.length = len;
	c.access_rw.uptr = va;
	c.access_rw.flags = fl;
	l = len > 0x40000 ? 0x40000 : len;
	if (scratch) {
		if (fl & MOCK_ACCESS_RW_WRITE)
			pattern(va & ~7ull, (l + 15) & ~7ull, A("seed", 77));
		else
			memset((void *)va, 0x5a, l);
	}
	CALL(IOMMU_TEST_CMD, c);
	if (!(fl & MOCK_ACCESS_RW_WRITE))
		P(" h=%08x", (u32)hash_mem(va, l, &bad));
	if (scratch)
		memset((void *)(va & ~7ull), 0, (l + 15) & ~7ull);
}
static void t_mem_limit(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT);
	c.memory_limit.limit = A("limit", 65536);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_dirty(void)
{
	struct iommu_test_cmd c;
	u8 *bm = SC + 0x30000;
	u64 len = A("len", 0), ps = A("pgsz", 4096), nb, i, x = A("pat", 1) * 2654435761u + 99, mode = A("mode", 0);
	tcall_init(&c, IOMMU_TEST_OP_DIRTY);
	nb = ps ? len / ps : 0;
	if (nb > 65536 * 8)
		nb = 65536 * 8;
	memset(bm, 0, 65536);
	for (i = 0; i < nb; i++) {
		x ^= x << 13; x ^= x >> 7; x ^= x << 17;
		if (mode == 1 || (mode == 0 && (x & 3) == 0) || (mode == 2 && i == A("bit", 0)))
			bm[i / 8] |= 1 << (i & 7);
	}
	c.id = A("hwpt", 0);
	c.dirty.flags = A("flags", 0);
	c.dirty.iova = A("iova", 0);
	c.dirty.length = len;
	c.dirty.page_size = ps;
	c.dirty.uptr = dptr("bptr", (u64)bm);
	if (CALL(IOMMU_TEST_CMD, c) && fl_ptr_ok())
		P(" nr=%llu", (unsigned long long)c.dirty.out_nr_dirty);
	memset(bm, 0, 65536);
}
static void t_iopf(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_TRIGGER_IOPF);
	c.trigger_iopf.dev_id = A("dev", 0);
	c.trigger_iopf.pasid = A("pasid", 0);
	c.trigger_iopf.grpid = A("grp", 0);
	c.trigger_iopf.perm = A("perm", 0);
	c.trigger_iopf.addr = A("addr", 0);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_vevent(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_TRIGGER_VEVENT);
	c.trigger_vevent.dev_id = A("dev", 0);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_pasid_attach(void)
{
	struct iommu_test_cmd c;
	int i;
	tcall_init(&c, IOMMU_TEST_OP_PASID_ATTACH);
	c.id = A("stdev", 0);
	c.pasid_attach.pasid = A("pasid", 0);
	c.pasid_attach.pt_id = A("pt", 0);
	if (CALL(IOMMU_TEST_CMD, c)) {
		u32 pasid = A("pasid", 0);
		for (i = 0; i < 256 && pasid; i++)
			if (!pas[i].used) {
				pas[i].used = 1;
				pas[i].c = cc;
				pas[i].stdev = A("stdev", 0);
				pas[i].pasid = pasid;
				break;
			}
		if (fl_ptr_ok()) {
			setout("hwpt", c.pasid_attach.pt_id);
			P(" hwpt=%u", c.pasid_attach.pt_id);
		}
	}
}
static void t_pasid_replace(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_PASID_REPLACE);
	c.id = A("stdev", 0);
	c.pasid_replace.pasid = A("pasid", 0);
	c.pasid_replace.pt_id = A("pt", 0);
	if (CALL(IOMMU_TEST_CMD, c) && fl_ptr_ok()) {
		setout("hwpt", c.pasid_replace.pt_id);
		P(" hwpt=%u", c.pasid_replace.pt_id);
	}
}
static void t_pasid_detach(void)
{
	struct iommu_test_cmd c;
	int i;
	tcall_init(&c, IOMMU_TEST_OP_PASID_DETACH);
	c.id = A("stdev", 0);
	c.pasid_detach.pasid = A("pasid", 0);
	if (CALL(IOMMU_TEST_CMD, c))
		for (i = 0; i < 256; i++)
			if (pas[i].used && pas[i].c == cc && pas[i].stdev == c.id && pas[i].pasid == (u32)A("pasid", 0))
				pas[i].used = 0;
}
static void t_pasid_check(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_PASID_CHECK_HWPT);
	c.id = A("stdev", 0);
	c.pasid_check.pasid = A("pasid", 0);
	c.pasid_check.hwpt_id = A("hwpt", 0);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_dmabuf_get(void)
{
	struct iommu_test_cmd c;
	int r;
	tcall_init(&c, IOMMU_TEST_OP_DMABUF_GET);
	c.dmabuf_get.length = A("len", 4096);
	c.dmabuf_get.open_flags = A("oflags", O_RDWR | O_CLOEXEC);
	r = xioctl(IOMMU_TEST_CMD, &c, sizeof(c));
	if (r >= 0) {
		setout("fd", r);
		P(" ret=fd OK");
	} else {
		rhead(r, errno);
	}
}
static void t_dmabuf_revoke(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, IOMMU_TEST_OP_DMABUF_REVOKE);
	c.dmabuf_revoke.dmabuf_fd = A("fd", -1);
	c.dmabuf_revoke.revoked = A("revoked", 1);
	CALL(IOMMU_TEST_CMD, c);
}
static void t_raw(void)
{
	struct iommu_test_cmd c;
	tcall_init(&c, A("op", 0));
	c.id = A("id", 0);
	CALL(IOMMU_TEST_CMD, c);
}

/* arbitrary ioctl number with 32 bit words as data */
static void op_raw(void)
{
	u64 v[32];
	u32 d[32] = { 0 };
	int n = tuples(S("w"), v, 1, 32), i, r;
	unsigned long cmd = _IOC(A("dir", 0), A("type", IOMMUFD_TYPE), A("nr", 0x80), A("isz", 0));
	for (i = 0; i < n; i++)
		d[i] = v[i];
	memset(arena, 0, PG);
	memcpy(arena, d, sizeof(d));
	errno = 0;
	r = dev_ioctl(FD, cmd, S("ptr") && !strcmp(S("ptr"), "null") ? 0 : (unsigned long)arena);
	last_touched = memcmp(arena, d, sizeof(d)) != 0;
	last_oob = 0;
	rhead(r, errno);
}

/* event queues */
static void op_fault_read(void)
{
	u64 bytes = S("bytes") ? A("bytes", 0) : A("n", 1) * sizeof(struct iommu_hwpt_pgfault);
	struct iommu_hwpt_pgfault *f = (void *)SC;
	const char *bp = S("bptr");
	void *dst = (void *)dptr("bptr", (u64)SC);
	ssize_t r, i;
	memset(SC, 0, 8192);
	errno = 0;
	r = S("off") ? dev_pread(A("fd", -1), dst, bytes, A("off", 0)) : dev_read(A("fd", -1), dst, bytes);
	last_touched = last_oob = 0;
	rhead(r, errno);
	for (i = 0; !bp && r > 0 && i < r / (ssize_t)sizeof(*f); i++) {
		char nm[16];
		snprintf(nm, sizeof(nm), "c%u", (unsigned)i % 1000);
		setout(nm, f[i].cookie);
		P(" {fl=%x dev=%u pasid=%x grp=%x perm=%x rs=%x addr=%llx len=%x cookie=%x}", f[i].flags, f[i].dev_id, f[i].pasid,
		  f[i].grpid, f[i].perm, f[i].__reserved, (unsigned long long)f[i].addr, f[i].length, f[i].cookie);
	}
	memset(SC, 0, 8192);
}
static void op_fault_write(void)
{
	u64 v[64];
	int n = tuples(S("r"), v, 2, 32), i;
	struct iommu_hwpt_page_response *r = (void *)SC;
	ssize_t ret;
	for (i = 0; i < n; i++) {
		r[i].cookie = v[2 * i];
		r[i].code = v[2 * i + 1];
	}
	errno = 0;
	ret = dev_write(A("fd", -1), (void *)dptr("bptr", (u64)SC), A("bytes", n * sizeof(*r)));
	last_touched = last_oob = 0;
	rhead(ret, errno);
	memset(SC, 0, 1024);
}
static void op_vevent_read(void)
{
	u64 bytes = A("bytes", 64);
	u8 *p = SC;
	void *dst = (void *)dptr("bptr", (u64)SC);
	ssize_t r, o = 0;
	memset(SC, 0, 8192);
	errno = 0;
	r = S("off") ? dev_pread(A("fd", -1), dst, bytes, A("off", 0)) : dev_read(A("fd", -1), dst, bytes);
	last_touched = last_oob = 0;
	rhead(r, errno);
	while (!S("bptr") && r - o >= 8) {
		u32 *h = (u32 *)(p + o);
		P(" {fl=%x seq=%u", h[0], h[1]);
		o += 8;
		if (!(h[0] & IOMMU_VEVENTQ_FLAG_LOST_EVENTS) && r - o >= 4) {
			P(" virt=%x", h[2]);
			o += 4;
		}
		P("}");
	}
	memset(SC, 0, 8192);
}
static void op_vevent_write(void)
{
	ssize_t r;
	errno = 0;
	r = dev_write(A("fd", -1), SC, 8);
	last_touched = last_oob = 0;
	rhead(r, errno);
}
static void op_poll(void)
{
	struct pollfd p = { .fd = (int)A("fd", -1), .events = POLLIN | POLLOUT };
	int r = p.fd < 0 ? -2 : dev_poll(&p);
	P(" ret=%d ev=%x", r, r == -2 ? 0 : p.revents);
}

/* descriptors and memory */
static void op_close(void)
{
	int fd = (int)A("fd", -1);
	int r;
	errno = 0;
	r = fd < 0 ? (errno = EBADF, -1) : dev_close(fd);
	last_touched = last_oob = 0;
	rhead(r, errno);
}
static void op_reopen(void)
{
	int n = pas_clean(cc, 0, 1);
	errno = 0;
	dev_close(FD);
	FD = dev_open();
	last_touched = last_oob = 0;
	rhead(FD >= 0 ? 0 : -1, errno);
	if (n)
		P(" autodetach=%d", n);
}
static void op_ctx(void)
{
	cc = A("n", 0) % NCTX;
	errno = 0;
	if (FD < 0)
		FD = dev_open();
	last_touched = last_oob = 0;
	rhead(FD >= 0 ? 0 : -1, errno);
}
static void op_mmap(void)
{
	u64 len = A("len", 8192);
	void *p;
	errno = 0;
	p = dev_mmap(NULL, len, A("prot", PROT_READ | PROT_WRITE), A("shared", 1) ? MAP_SHARED : MAP_PRIVATE, FD, A("off", 0));
	last_touched = last_oob = 0;
	if (p == MAP_FAILED) {
		rhead(-1, errno);
		return;
	}
	rhead(0, 0);
	setout("addr", (u64)p);
	setout("len", len);
	P(" first=%x", *(volatile u32 *)p);
}
static void op_munmap(void)
{
	u64 a = A("addr", 0);
	int r;
	errno = 0;
	if (a == 0xdead0000)
		r = (errno = ENOENT, -1);
	else
		r = dev_munmap((void *)a, A("len", 8192));
	last_touched = last_oob = 0;
	rhead(r, errno);
}
static void op_peek(void)
{
	u64 bad;
	P(" h=%08x", (u32)hash_mem(A("va", 0), A("len", 4), &bad));
	P(" bad=%llu", (unsigned long long)bad);
}
static void op_fill(void)
{
	volatile int ok = 1;
	segv_on = 1;
	if (sigsetjmp(segv_env, 1) == 0)
		pattern(A("va", 0), A("len", 8), A("seed", 1));
	else
		ok = 0;
	segv_on = 0;
	P(" ok=%d", ok);
}
static void op_hashall(void)
{
	int i;
	u64 bad;
	for (i = B_SH; i <= B_HG; i++)
		P(" %s=%08x", bufs[i].name, (u32)hash_mem(bufs[i].addr, i == B_HG ? 65536 : bufs[i].size, &bad));
}
static void op_uunmap(void)
{
	int r = munmap((void *)A("va", 0), A("len", PG));
	last_touched = last_oob = 0;
	rhead(r, errno);
}
/* fresh private anonymous memory at a (previously unmapped) place */
static void op_umap(void)
{
	void *p = mmap((void *)A("va", 0), A("len", PG), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	last_touched = last_oob = 0;
	if (p != MAP_FAILED) {
		madvise(p, A("len", PG), MADV_NOHUGEPAGE);
		pattern((u64)p, A("len", PG), A("seed", 9));
	}
	rhead(p == MAP_FAILED ? -1 : 0, errno);
}
static void op_uprotect(void)
{
	int r = mprotect((void *)A("va", 0), A("len", PG), A("prot", PROT_READ));
	last_touched = last_oob = 0;
	rhead(r, errno);
}
static void op_setuid(void)
{
	u32 u = A("uid", 1000);
	int r = syscall(SYS_setresuid, u, u, u);
	last_touched = last_oob = 0;
	rhead(r, errno);
}
static void op_rlimit(void)
{
	struct rlimit rl = { A("n", 0), A("n", 0) };
	int r = setrlimit(RLIMIT_MEMLOCK, &rl);
	last_touched = last_oob = 0;
	rhead(r, errno);
}

/* VFIO compatibility */
static void v_api(void) { int r; last_touched = last_oob = 0; errno = 0; r = dev_ioctl(FD, VFIO_GET_API_VERSION, 0); rhead(r, errno); }
static void v_check(void) { int r; last_touched = last_oob = 0; errno = 0; r = dev_ioctl(FD, VFIO_CHECK_EXTENSION, A("ext", 0)); rhead(r, errno); }
static void v_set(void) { int r; last_touched = last_oob = 0; errno = 0; r = dev_ioctl(FD, VFIO_SET_IOMMU, A("type", 0)); rhead(r, errno); }
static void v_info(void)
{
	u8 *p = SC;
	struct vfio_iommu_type1_info *i = (void *)p;
	u32 argsz = A("argsz", 512), off;
	int r, n = 0;
	memset(p, 0, 4096);
	if (argsz < 4096)
		memset(p + argsz, 0x5a, 256);
	i->argsz = argsz;
	errno = 0;
	r = dev_ioctl(FD, VFIO_IOMMU_GET_INFO, dptr("dptr", (u64)p));
	last_touched = last_oob = 0;
	if (rhead(r, errno) && !S("dptr")) {
		P(" argsz=%u flags=%x pgsz=%llx cap=%u", i->argsz, i->flags,
		  argsz >= 16 ? (unsigned long long)i->iova_pgsizes : 0ull, argsz >= sizeof(*i) ? i->cap_offset : 0);
		off = argsz >= sizeof(*i) ? i->cap_offset : 0;
		while (off && off < 3800 && n++ < 8) {
			struct vfio_info_cap_header *h = (void *)(p + off);
			P(" cap[%u]={id=%u v=%u next=%u", off, h->id, h->version, h->next);
			if (h->id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
				struct vfio_iommu_type1_info_cap_iova_range *cr = (void *)h;
				u32 k;
				P(" n=%u", cr->nr_iovas);
				for (k = 0; k < cr->nr_iovas && k < 16; k++)
					P(" %llx-%llx", (unsigned long long)cr->iova_ranges[k].start, (unsigned long long)cr->iova_ranges[k].end);
			} else if (h->id == VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL) {
				P(" avail=%u", ((struct vfio_iommu_type1_info_dma_avail *)h)->avail);
			}
			P("}");
			off = h->next;
		}
		P(" h=%08x", (u32)fnv(p, 4096, FNV0));
	}
	memset(p, 0, 4096 + 256);
}
static void v_map(void)
{
	struct vfio_iommu_type1_dma_map *m = (void *)arena;
	int r;
	memset(arena, 0, PG);
	m->argsz = A("argsz", sizeof(*m));
	m->flags = A("flags", 3);
	m->vaddr = A("va", 0);
	m->iova = A("iova", 0);
	m->size = A("len", 0);
	errno = 0;
	r = dev_ioctl(FD, VFIO_IOMMU_MAP_DMA, dptr("dptr", (u64)m));
	last_touched = last_oob = 0;
	if (rhead(r, errno))
		setout("iova", A("iova", 0));
}
static void v_unmap(void)
{
	struct vfio_iommu_type1_dma_unmap *m = (void *)arena;
	int r;
	memset(arena, 0, PG);
	m->argsz = A("argsz", sizeof(*m));
	m->flags = A("flags", 0);
	m->iova = A("iova", 0);
	m->size = A("len", 0);
	errno = 0;
	r = dev_ioctl(FD, VFIO_IOMMU_UNMAP_DMA, S("ptr") && !strcmp(S("ptr"), "ro") ? (unsigned long)arena_ro : dptr("dptr", (u64)m));
	last_touched = last_oob = 0;
	rhead(r, errno);
	P(" size=%llx", (unsigned long long)m->size);
}
static void v_dirty(void)
{
	struct vfio_iommu_type1_dirty_bitmap *m = (void *)arena;
	int r;
	memset(arena, 0, PG);
	m->argsz = sizeof(*m);
	m->flags = A("flags", 1);
	errno = 0;
	r = dev_ioctl(FD, VFIO_IOMMU_DIRTY_PAGES, (unsigned long)m);
	last_touched = last_oob = 0;
	rhead(r, errno);
}

static const struct { const char *n; void (*f)(void); } ops[] = {
	{ "destroy", op_destroy }, { "ioas_alloc", op_ioas_alloc }, { "ioas_ranges", op_ioas_ranges },
	{ "ioas_allow", op_ioas_allow }, { "ioas_map", op_ioas_map }, { "ioas_map_file", op_ioas_map_file },
	{ "ioas_copy", op_ioas_copy }, { "ioas_unmap", op_ioas_unmap }, { "option", op_option },
	{ "vfio_ioas", op_vfio_ioas }, { "hwpt_alloc", op_hwpt_alloc }, { "hw_info", op_hw_info },
	{ "set_dirty", op_set_dirty }, { "get_dirty", op_get_dirty }, { "invalidate", op_invalidate },
	{ "fault_alloc", op_fault_alloc }, { "viommu_alloc", op_viommu_alloc }, { "vdevice_alloc", op_vdevice_alloc },
	{ "change_process", op_change_process }, { "veventq_alloc", op_veventq_alloc },
	{ "hw_queue_alloc", op_hw_queue_alloc },
	{ "t_reserved", t_reserved }, { "t_mock", t_mock }, { "t_replace", t_replace }, { "t_check_map", t_check_map },
	{ "t_check_refs", t_check_refs }, { "t_refs", t_refs }, { "t_check_iotlb", t_check_iotlb },
	{ "t_check_cache", t_check_cache }, { "t_access_create", t_access_create }, { "t_access_replace", t_access_replace },
	{ "t_access_pages", t_access_pages }, { "t_access_unpin", t_access_unpin }, { "t_access_rw", t_access_rw },
	{ "t_mem_limit", t_mem_limit }, { "t_dirty", t_dirty }, { "t_iopf", t_iopf }, { "t_vevent", t_vevent },
	{ "t_pasid_attach", t_pasid_attach }, { "t_pasid_replace", t_pasid_replace }, { "t_pasid_detach", t_pasid_detach },
	{ "t_pasid_check", t_pasid_check }, { "t_dmabuf_get", t_dmabuf_get }, { "t_dmabuf_revoke", t_dmabuf_revoke },
	{ "t_raw", t_raw }, { "raw", op_raw }, { "fault_read", op_fault_read }, { "fault_write", op_fault_write },
	{ "vevent_read", op_vevent_read }, { "vevent_write", op_vevent_write }, { "poll", op_poll }, { "close", op_close },
	{ "reopen", op_reopen }, { "ctx", op_ctx }, { "mmap", op_mmap }, { "munmap", op_munmap }, { "peek", op_peek },
	{ "fill", op_fill }, { "hashall", op_hashall }, { "u_unmap", op_uunmap }, { "u_map", op_umap },
	{ "u_protect", op_uprotect }, { "setuid", op_setuid }, { "rlimit", op_rlimit }, { "v_api", v_api },
	{ "v_check", v_check }, { "v_set", v_set }, { "v_info", v_info }, { "v_map", v_map }, { "v_unmap", v_unmap },
	{ "v_dirty", v_dirty },
};

static void on_alarm(int s)
{
	static const char m[] = "TIMEOUT\n";
	(void)s;
	(void)!write(1, m, sizeof(m) - 1);
	_exit(3);
}

static void reset_limit(void)
{
	struct iommu_test_cmd c = { .size = sizeof(c), .op = IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT };
	int fd = dev_open();
	if (fd < 0)
		return;
	c.memory_limit.limit = 65536;
	dev_ioctl(fd, IOMMU_TEST_CMD, (unsigned long)&c);
	dev_close(fd);
}

int main(int argc, char **argv)
{
	char line[8192];
	FILE *f;
	size_t i;

	if (argc == 2 && !strcmp(argv[1], "-l")) {
		for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
			puts(ops[i].n);
		return 0;
	}
	if (argc < 2 || !(f = fopen(argv[1], "r"))) {
		fprintf(stderr, "usage: exec SCRIPT\n");
		return 2;
	}
	res = calloc(MAXOPS, sizeof(*res));
	signal(SIGALRM, on_alarm);
	signal(SIGSEGV, on_segv);
	signal(SIGBUS, on_segv);
	alarm(90);
	setup_mem();
	reset_limit();
	FD = dev_open();
	if (FD < 0) {
		printf("OPEN %s\n", en(errno));
		return 1;
	}
	idx = 0;
	while (fgets(line, sizeof(line), f) && idx < MAXOPS) {
		char *save = NULL, *t, *op;
		line[strcspn(line, "\r\n")] = 0;
		op = strtok_r(line, " \t", &save);
		if (!op || op[0] == '#')
			continue;
		nargs = 0;
		while ((t = strtok_r(NULL, " \t", &save)) && nargs < 64) {
			char *eq = strchr(t, '=');
			if (!eq)
				continue;
			*eq = 0;
			argk[nargs] = t;
			argv_[nargs++] = eq + 1;
		}
		outn = 0;
		out[0] = 0;
		for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
			if (!strcmp(ops[i].n, op)) {
				ops[i].f();
				break;
			}
		if (i == sizeof(ops) / sizeof(ops[0]))
			P(" UNKNOWN-OP");
		printf("%d %s%s\n", idx, op, out);
		fflush(stdout);
		idx++;
	}
	for (i = 0; i < NCTX; i++)
		if (ctx[i] >= 0)
			pas_clean(i, 0, 1);
	printf("END %d\n", idx);
	fflush(stdout);
	reset_limit();
	return 0;
}
