/* Another CPU for libtorch, at native speed. Preloaded, it answers the traps that stand in place of
 * the library's cpuid instructions (int3; nop) as the CPU would that FAKE_CPU describes:
 * "MAKER SIGNATURE L1 L2 L3 THREADS_PER_CORE LEVEL", caches in KiB, LEVEL 0: AVX2, 1: Skylake's
 * AVX-512, 2: all that the real CPU has. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { EAX, EBX, ECX, EDX };
enum { AVX2, SKYLAKE };
enum { DATA = 1, CODE, UNIFIED };

static char maker[13];
static uint32_t signature, l1, l2, l3, threads, level;

/* Of leaf 7: what came after AVX2, and what came after Skylake's AVX-512 (F, DQ, CD, BW, VL). */
static const uint32_t AFTER_AVX2[] = {0, 0xdc230000, 0x00005f42, 0x03c0010c};
static const uint32_t AFTER_SKYLAKE[] = {0, 0x00200000, 0x00005f42, 0x03c00100};

static void describe_cache(uint32_t *r, int number)
{
    const struct { uint32_t kib, level, type, ways, sharing; } caches[] = {
        {l1, 1, DATA, l1 == 48 ? 12 : 8, 2}, {32, 1, CODE, 8, 2},
        {l2, 2, UNIFIED, 16, 2}, {l3, 3, UNIFIED, 16, 32},
    };
    memset(r, 0, 4 * sizeof *r);
    if (number > 3 || !l2) return; /* no more, or a virtual machine that tells nothing */
    r[EAX] = caches[number].type | caches[number].level << 5 | (caches[number].sharing - 1) << 14;
    r[EBX] = 63 | (caches[number].ways - 1) << 22;
    r[ECX] = caches[number].kib * 1024 / 64 / caches[number].ways - 1;
}

static void describe_topology(uint32_t *r, uint32_t number)
{
    const uint32_t cores = 32, of_threads = 1, of_cores = 2;
    r[EAX] = number == 0 ? threads > 1 : number == 1 ? 6 : 0; /* bits of a core's number */
    r[EBX] = number == 0 ? threads : number == 1 ? cores : 0;
    r[ECX] = number | (number == 0 ? of_threads : number == 1 ? of_cores : 0) << 8;
    r[EDX] = 0;
}

static void answer(uint32_t leaf, uint32_t number, uint32_t *r)
{
    int intel = !strcmp(maker, "GenuineIntel");
    __cpuid_count(leaf, number, r[EAX], r[EBX], r[ECX], r[EDX]);
    switch (leaf) {
    case 0:
    case 0x80000000:
        r[EAX] = leaf ? (intel ? 0x80000008 : 0x80000021) : (intel ? 0x16 : 0x10);
        memcpy(&r[EBX], maker, 4);
        memcpy(&r[EDX], maker + 4, 4);
        memcpy(&r[ECX], maker + 8, 4);
        break;
    case 1:
        r[EAX] = signature;
        break;
    case 4: /* Intel's caches */
        describe_cache(r, intel ? number : 4);
        break;
    case 7:
        if (number == 0 && level <= SKYLAKE)
            for (int i = EBX; i <= EDX; i++)
                r[i] &= ~(level == AVX2 ? AFTER_AVX2 : AFTER_SKYLAKE)[i];
        if (number == 1 && level <= SKYLAKE) memset(r, 0, 4 * sizeof *r);
        break;
    case 0xb:
        describe_topology(r, number);
        break;
    case 0x1f:
        memset(r, 0, 4 * sizeof *r);
        break;
    case 0x80000006:
        if (!intel) r[ECX] = l2 << 16 | 6 << 12 | 64, r[EDX] = l3 / 512 << 18 | 64;
        break;
    case 0x8000001d: /* AMD's caches */
        describe_cache(r, intel ? 4 : number);
        break;
    }
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint32_t r[4];
    answer(registers[REG_RAX], registers[REG_RCX], r);
    registers[REG_RAX] = r[EAX];
    registers[REG_RBX] = r[EBX];
    registers[REG_RCX] = r[ECX];
    registers[REG_RDX] = r[EDX];
}

__attribute__((constructor)) static void start(void)
{
    const char *cpu = getenv("FAKE_CPU");
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (!cpu || sscanf(cpu, "%12s %i %u %u %u %u %u", maker, (int *)&signature, &l1, &l2, &l3,
                       &threads, &level) != 7) {
        fputs("FAKE_CPU describes no CPU\n", stderr);
        _exit(3);
    }
    sigaction(SIGTRAP, &action, NULL);
}
