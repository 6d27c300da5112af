/* The command line of load.c. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "stats.h"
#include <getopt.h>

#define MOST_BODY_BYTES 200000
#define CHUNKS_DIGITS 6 /* the number of chunks is written with this width, so that it can be changed in place */
#define MOST_CHUNKS 999999

/* How a stream is asked for and read in each dialect; the mock speaks only the first. */
static const struct dialect {
    const char *name, *path, *input, *length_field, *done, *stamp;
} dialects[] = {
    {"chat", "/v1/chat/completions", "messages", "max_tokens", "data: [DONE]", STAMP_MARK},
    {"messages", "/v1/messages", "messages", "max_tokens", "event: message_stop", "\"text\":\"@"},
    {"responses", "/v1/responses", "input", "max_output_tokens", "event: response.completed", "\"delta\":\"@"},
};
#define DIALECTS (sizeof dialects / sizeof *dialects)

static struct options {
    int port, connections, body_bytes;
    uint32_t chunks;
    double rate, ramp_s, warm_s, seconds;
    uint64_t requests;
    const char *authorization, *model, *chunk_rate;
    const struct dialect *dialect;
    struct processes subjects, harness;
} options = {
    .connections = 1,
    .body_bytes = 2048,
    .seconds = 1,
    .model = "mock-model",
    .authorization = "",
    .chunk_rate = "50",
    .dialect = dialects,
};

static const struct dialect *dialect_named(const char *name)
{
    for (size_t i = 0; i < DIALECTS; i++)
        if (strcmp(dialects[i].name, name) == 0)
            return &dialects[i];
    die("no dialect is named %.40s", name);
}

static void add_process(struct processes *processes, pid_t pid)
{
    if (processes->count == MOST_PROCESSES)
        die("more than %d processes", MOST_PROCESSES);
    processes->pids[processes->count++] = pid;
}

static void read_options(int count, char **arguments)
{
    static const struct option known[] = {
        {"port", 1, 0, 'p'},     {"dialect", 1, 0, 'd'},    {"authorization", 1, 0, 'a'}, {"model", 1, 0, 'm'},
        {"rate", 1, 0, 'r'},     {"connections", 1, 0, 'c'}, {"body-bytes", 1, 0, 'b'},    {"requests", 1, 0, 'n'},
        {"chunks", 1, 0, 'k'},   {"chunk-rate", 1, 0, 'R'}, {"ramp", 1, 0, 'u'},          {"warm", 1, 0, 'w'},
        {"seconds", 1, 0, 's'},  {"subject", 1, 0, 'S'},    {"harness", 1, 0, 'H'},       {0, 0, 0, 0},
    };
    for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'd': options.dialect = dialect_named(optarg); break;
        case 'a': options.authorization = optarg; break;
        case 'm': options.model = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'n': options.requests = strtoull(optarg, NULL, 10); break;
        case 'b': options.body_bytes = atoi(optarg); break;
        case 'k': options.chunks = (uint32_t)atoi(optarg); break;
        case 'R': options.chunk_rate = optarg; break;
        case 'u': options.ramp_s = atof(optarg); break;
        case 'w': options.warm_s = atof(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'S': add_process(&options.subjects, atoi(optarg)); break;
        case 'H': add_process(&options.harness, atoi(optarg)); break;
        default: die("usage: see the head of load.c");
        }
    }
    if (options.port <= 0 || options.connections <= 0 || options.seconds <= 0)
        die("--port, --connections and --seconds must be positive");
    if (options.body_bytes > MOST_BODY_BYTES || options.chunks > MOST_CHUNKS)
        die("--body-bytes is at most %d, --chunks at most %d", MOST_BODY_BYTES, MOST_CHUNKS);
}

#endif
