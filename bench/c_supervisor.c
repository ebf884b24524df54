// SPDX-License-Identifier: Apache-2.0
// The floor of what `iommulator run` can reach: the same interception, in C, with nothing behind it. Every ioctl of
// type ';' of the program is stopped by seccomp; 64 bytes are read from the client, 16 are written back, the call
// returns 0. Usage: c_supervisor PROGRAM ARG ...
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#else
#define ARCH AUDIT_ARCH_X86_64
#endif

#define DATA(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(value, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, otherwise)

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static int install_filter(void)
{
	// A jump counts the instructions that it passes over: all of these go to the ALLOW at the end.
	struct sock_filter program[] = {
		DATA(arch), IF_EQUAL(ARCH, 6),
		DATA(nr), IF_EQUAL(__NR_ioctl, 4),
		DATA(args[1]), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00), IF_EQUAL(';' << 8, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(program) / sizeof(program[0]), program };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("PR_SET_NO_NEW_PRIVS");
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		       SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
}

// Passes the listener to the other end of a socket pair, or receives it.
static void send_fd(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	if (sendmsg(socket, &message, 0) != 1)
		die("sendmsg");
}

static int receive_fd(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int fd;

	if (recvmsg(socket, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
		die("the program's filter could not be installed");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return fd;
}

// Ends with the program: its exit interrupts the receive below, whenever it comes.
static void on_child(int signal)
{
	int status;

	(void)signal;
	if (wait(&status) > 0)
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int main(int argc, char **argv)
{
	int pair[2], listener;
	pid_t child;

	if (argc < 2) {
		fprintf(stderr, "usage: c_supervisor PROGRAM ARG ...\n");
		return 2;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	signal(SIGCHLD, on_child);
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		signal(SIGCHLD, SIG_DFL);
		listener = install_filter();
		if (listener < 0)
			die("seccomp");
		send_fd(pair[1], listener);
		close(listener);
		execvp(argv[1], argv + 1);
		die(argv[1]);
	}
	listener = receive_fd(pair[0]);
#ifdef SECCOMP_IOCTL_NOTIF_SET_FLAGS
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
#endif
	for (;;) {
		struct seccomp_notif call = { 0 };
		struct seccomp_notif_resp reply = { 0 };
		char bytes[64];
		struct iovec here = { bytes, 64 }, there;

		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call)) {
			if (errno == EINTR || errno == ENOENT)
				continue;
			die("SECCOMP_IOCTL_NOTIF_RECV");
		}
		there = (struct iovec){ (void *)(uintptr_t)call.data.args[2], 64 };
		process_vm_readv(call.pid, &here, 1, &there, 1, 0);
		here.iov_len = there.iov_len = 16;
		process_vm_writev(call.pid, &here, 1, &there, 1, 0);
		reply.id = call.id;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
	}
}
