/* Shows a process a processor without AVX-512 and AMX, so that a peer that has no switch for it can be timed with AVX2. bench builds and
 * loads it for subjects that end in -avx2; by hand:
 *
 *     cc -O2 -shared -fPIC -o hide.so bench/avx2/hide.c
 *     export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW
 *     LD_PRELOAD=./hide.so python3 bench/peer.py onnxruntime MODEL.onnx 1x3x224x224 1 2
 *
 * CPUID is made to fault (Linux on Intel processors with cpuid_fault in /proc/cpuinfo), and the handler of the fault answers as the
 * processor would, but for the bits in masked. Libraries choose their kernels once, after this one is loaded (but for the C library: hence
 * its tunables), and no other instruction is touched: nothing becomes slower that does not ask for CPUID. Threads inherit the setting; a
 * program that is executed does not, and loads this library anew.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define BIT(n) (1u << (n))

static const struct {
	unsigned leaf, subleaf, eax, ebx, ecx, edx;
} masked[] = {
	/* Extensions: AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL | VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ | 4VNNIW, 4FMAPS, VP2INTERSECT,
	 * AMX-BF16, AVX-512 FP16, AMX-TILE, AMX-INT8 */
	{7, 0, 0, BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31),
	 BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14), BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25)},
	/* AVX-512 BF16, AMX-FP16 | AMX-COMPLEX, AVX10 */
	{7, 1, BIT(5) | BIT(21), 0, 0, BIT(8) | BIT(19)},
	/* State of the masks, upper halves, upper registers, and tiles */
	{13, 0, BIT(5) | BIT(6) | BIT(7) | BIT(17) | BIT(18), 0, 0, 0},
};

static long faulting(int on) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, !on); }

static void answer(int number, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	const unsigned char *code = (const unsigned char *)r[REG_RIP];
	unsigned leaf = r[REG_RAX], subleaf = r[REG_RCX], a, b, c, d;

	/* The fault of a faulting CPUID has no address; that of an access to memory may lie anywhere. */
	if (info->si_code != SI_KERNEL || code[0] != 0x0f || code[1] != 0xa2) {
		signal(number, SIG_DFL); /* a fault of the program: it happens again, and ends it */
		return;
	}
	faulting(0);
	__asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(subleaf));
	faulting(1);
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
		if (masked[i].leaf == leaf && masked[i].subleaf == subleaf) {
			a &= ~masked[i].eax;
			b &= ~masked[i].ebx;
			c &= ~masked[i].ecx;
			d &= ~masked[i].edx;
		}
	r[REG_RAX] = a;
	r[REG_RBX] = b;
	r[REG_RCX] = c;
	r[REG_RDX] = d;
	r[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void)
{
	struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO};

	if (sigaction(SIGSEGV, &action, NULL) != 0 || faulting(1) != 0) {
		perror("hide.so: AVX-512 and AMX cannot be hidden, as CPUID does not fault on this system");
		exit(1); /* rather than figures of the wrong instructions */
	}
}
