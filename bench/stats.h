/* What load.c measures with: a histogram of durations, and the processes' and the machine's CPU time and memory. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include "net.h"

/* Log-linear, as HdrHistogram: 128 steps in each power of two, so a value is kept to better than 1 %. */
#define HISTOGRAM_STEP_BITS 7
#define HISTOGRAM_STEPS (1u << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_SLOTS (HISTOGRAM_STEPS * (64 - HISTOGRAM_STEP_BITS + 1))

struct histogram {
    uint64_t count, largest;
    uint32_t slots[HISTOGRAM_SLOTS];
};

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
    uint64_t slot = ns;
    if (ns >= HISTOGRAM_STEPS) {
        unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - HISTOGRAM_STEP_BITS;
        slot = (uint64_t)shift * HISTOGRAM_STEPS + (ns >> shift);
    }
    h->slots[slot]++;
    h->count++;
    if (ns > h->largest)
        h->largest = ns;
}

/* The duration, in us, that the given share of all values does not exceed; 0 without values. */
static inline double histogram_us(const struct histogram *h, double share)
{
    uint64_t rank = (uint64_t)((double)h->count * share), seen = 0;
    for (uint64_t slot = 0; slot < HISTOGRAM_SLOTS; slot++) {
        seen += h->slots[slot];
        if (seen > rank) {
            unsigned shift = slot < 2 * HISTOGRAM_STEPS ? 0 : (unsigned)(slot / HISTOGRAM_STEPS - 1);
            return (double)((slot - (uint64_t)shift * HISTOGRAM_STEPS) << shift) / 1e3;
        }
    }
    return (double)h->largest / 1e3;
}

#define MOST_PROCESSES 8

struct processes {
    int count;
    pid_t pids[MOST_PROCESSES];
};

/* CPU time of whole processes in ns: all threads, ended ones too, user and kernel. Its clock is exact to the
 * moment, where /proc/PID/schedstat of a running thread lags by up to a scheduler tick. */
static inline uint64_t cpu_ns(const struct processes *processes)
{
    uint64_t total = 0;
    for (int i = 0; i < processes->count; i++) {
        clockid_t clock;
        struct timespec used;
        if (clock_getcpuclockid(processes->pids[i], &clock) != 0 || clock_gettime(clock, &used) != 0)
            die("process %d is gone", (int)processes->pids[i]);
        total += (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
    }
    return total;
}

/* Resident memory of the processes, in KiB. */
static inline long rss_kib(const struct processes *processes)
{
    long total = 0;
    for (int i = 0; i < processes->count; i++) {
        char line[256];
        snprintf(line, sizeof line, "/proc/%d/status", (int)processes->pids[i]);
        FILE *status = fopen(line, "r");
        if (!status)
            die("process %d is gone", (int)processes->pids[i]);
        while (fgets(line, sizeof line, status))
            if (strncmp(line, "VmRSS:", 6) == 0)
                total += atol(line + 6);
        fclose(status);
    }
    return total;
}

/* CPU time that anything took on this machine, in ns; steal, what other machines took of ours, included. */
static inline uint64_t machine_busy_ns(void)
{
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
    FILE *stat = fopen("/proc/stat", "r");
    if (!stat || fscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &iowait,
                        &irq, &softirq, &steal) != 8)
        die("cannot read /proc/stat");
    fclose(stat);
    return (user + nice + system + irq + softirq + steal) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

#endif
