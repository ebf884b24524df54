// SPDX-License-Identifier: Apache-2.0
// No C library at all: system calls made by hand.
static long call(long number, long a, long b, long c, long d) {
  long result;
#if defined(__x86_64__)
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
#else
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  result = x0;
#endif
  return result;
}
#if defined(__x86_64__)
enum { OPENAT = 257, IOCTL = 16, EXIT = 231 };
#else
enum { OPENAT = 56, IOCTL = 29, EXIT = 94 };
#endif
void _start(void) {
  struct { unsigned size, a; unsigned long b; } s = {16, 41, 0};
  long fd = call(OPENAT, -100, (long)"/dev/iommu", 2, 0);
  long result = call(IOCTL, fd, 0x3bf0, (long)&s, 0);
  call(EXIT, result == 0 ? (long)s.b : 1, 0, 0, 0);
  __builtin_unreachable();
}
