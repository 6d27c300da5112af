/* load: sends chat completions to one address and measures the answers and the processes that give them.
 *
 * Three modes, all over keep-alive connections:
 *   closed loop   (default)  each connection sends its next request when its answer has come
 *   open loop     --rate     requests at a fixed rate; a latency counts from the time at which its request was
 *                            due, so that a stall is not hidden by sending less
 *   streams       --chunks   each connection reads one paced stream after the other; what is measured is the
 *                            delay of each content chunk from mock.c, by the time stamp in it
 *
 * Connections are opened evenly over --ramp seconds; then --warm seconds are not counted, then --seconds are.
 * --subject PID (several) are measured: CPU per request or chunk, memory. --harness PID is the mock: its CPU
 * and that of this process say how near this bench was to its own limit. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include "options.h"
#include "reader.h"

#define MOST_ERRORS 1000 /* then the run ends: a subject that is down must not be hammered */
#define DRAIN_NS (5 * NS_PER_S)

enum phase { OPENING, WARMING, MEASURING, DRAINING, ENDED };

struct connection {
    int fd; /* -1: not connected */
    bool busy, done; /* an answer is awaited; its [DONE] has come */
    uint64_t start_ns;
    uint32_t chunks, chunks_expected;
    size_t sent;
    struct reader reader;
};

static int epoll_fd;
static char *request, *chunks_digits; /* of a stream: where in the request its number of chunks stands */
static size_t request_length;
static struct connection *connections, **idle; /* `idle` is a ring, used by the open loop alone */
static uint64_t idle_first, idle_count;
static enum phase phase = OPENING;
static int opened, busy;
static uint64_t begin_ns, due_ns, arrivals; /* `due_ns`: when the open loop's next request is due */
static uint64_t received_ns;                 /* when the bytes now being read came */

static struct histogram durations;
static uint64_t requests_sent, answers_counted, answers_total, chunks_counted, errors;
static char first_error[256];
static struct {
    uint64_t time, subject, harness, machine;
    long rss_kib;
} window[2];

static void connection_open(struct connection *c);

static void build_request(void)
{
    char head[1024], stream[256] = "";
    if (options.chunks)
        snprintf(stream, sizeof stream,
                 "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                 "\"bench_chunks\":%*u,\"bench_rate\":%.20s,",
                 CHUNKS_DIGITS, options.chunks, options.chunk_rate);
    request = malloc((size_t)options.body_bytes + 4096);
    char *body = malloc((size_t)options.body_bytes + 2048);
    if (!request || !body)
        die("out of memory");
    int length = sprintf(body,
                         "{\"model\":\"%.200s\",%s\"%s\":256,\"%s\":[{\"role\":\"system\",\"content\":"
                         "\"You answer in short sentences.\"},{\"role\":\"user\",\"content\":\"",
                         options.model, stream, options.dialect->length_field, options.dialect->input);
    for (int word = 0; length < options.body_bytes - 4; word++)
        body[length++] = word % 6 == 5 ? ' ' : (char)('a' + word % 26);
    length += sprintf(body + length, "\"}]}");
    int head_length = snprintf(head, sizeof head,
                               "POST %.200s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: %.300s\r\n"
                               "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n",
                               options.dialect->path, options.port, options.authorization, length);
    request_length = (size_t)(head_length + length);
    memcpy(request, head, (size_t)head_length);
    memcpy(request + head_length, body, (size_t)length);
    if (options.chunks)
        chunks_digits = (char *)memmem(request, request_length, "\"bench_chunks\":", 15) + 15;
    free(body);
}

static void connection_close(struct connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    if (c->busy)
        busy--;
    c->busy = false;
}

/* Counts an error, keeps the first one's text, and lets the connection start anew. */
static void fail(struct connection *c, const char *what, const char *detail)
{
    if (!errors++) {
        snprintf(first_error, sizeof first_error, "%s: %s", what, detail);
        for (char *byte = first_error; *byte; byte++)
            if ((unsigned char)*byte < ' ' || (unsigned char)*byte > '~' || *byte == '"' || *byte == '\\')
                *byte = ' ';
    }
    connection_close(c);
    if (errors >= MOST_ERRORS)
        phase = ENDED;
    else if (phase < DRAINING)
        connection_open(c);
}

static void write_request(struct connection *c)
{
    if (options.chunks) {
        char digits[16];
        snprintf(digits, sizeof digits, "%*u", CHUNKS_DIGITS, c->chunks_expected);
        memcpy(chunks_digits, digits, CHUNKS_DIGITS);
    }
    while (c->sent < request_length) {
        ssize_t count = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL);
        if (count < 0) {
            if (errno != EAGAIN)
                fail(c, "send", strerror(errno));
            return;
        }
        c->sent += (size_t)count;
    }
}

static void begin_request(struct connection *c, uint64_t start_ns)
{
    /* First streams are shorter by different amounts: ends and new beginnings are spread over all times. */
    uint64_t place = (uint64_t)(c - connections) + 1;
    uint64_t share = 1 + options.chunks * place / ((uint64_t)options.connections + 1);
    /* What says how many is left out of a translated request: the provider's configuration sets it. */
    bool as_asked = options.dialect == dialects;
    c->chunks_expected = c->chunks_expected || !as_asked ? options.chunks : (uint32_t)share;
    c->busy = true;
    busy++;
    requests_sent++;
    c->start_ns = start_ns;
    c->sent = 0;
    c->done = false;
    c->chunks = 0;
    reader_reset(&c->reader);
    write_request(c);
}

/* What a connection does when it is free: wait for its turn in the open loop, else send at once. */
static void next_request(struct connection *c)
{
    if (options.rate > 0)
        idle[(idle_first + idle_count++) % (uint64_t)options.connections] = c;
    else if (phase < DRAINING && (!options.requests || requests_sent < options.requests))
        begin_request(c, now_ns());
}

static void connection_connect(struct connection *c)
{
    struct sockaddr_in address = loopback(options.port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    no_delay(c->fd);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        die("connect to 127.0.0.1:%d: %s", options.port, strerror(errno));
    watch(epoll_fd, c->fd, c);
}

static void connection_open(struct connection *c)
{
    connection_connect(c);
    next_request(c);
}

/* Sends the requests of the open loop that are due, each on the connection that has been idle longest, after the
 * window's end those that should have gone before it. Returns when the next is due. */
static uint64_t dispatch(void)
{
    while (idle_count && now_ns() >= due_ns && (phase < DRAINING || due_ns < window[1].time)) {
        struct connection *c = idle[idle_first++ % (uint64_t)options.connections];
        idle_count--;
        if (c->fd < 0)
            connection_connect(c);
        begin_request(c, due_ns);
        due_ns = begin_ns + (uint64_t)((double)++arrivals / options.rate * (double)NS_PER_S);
    }
    return idle_count && phase < DRAINING ? due_ns : NEVER;
}

static void finish_answer(struct connection *c)
{
    answers_total++;
    if (options.chunks && (!c->done || c->chunks != c->chunks_expected)) {
        char detail[64];
        snprintf(detail, sizeof detail, "%u of %u chunks, %s", c->chunks, c->chunks_expected,
                 c->done ? "then the end" : "no end");
        fail(c, "stream", detail);
        return;
    }
    /* In the open loop each request that was due in the window counts, however late its answer is. */
    if (options.rate > 0 ? phase >= MEASURING && c->start_ns >= window[0].time : phase == MEASURING) {
        answers_counted++;
        if (!options.chunks)
            histogram_add(&durations, received_ns - c->start_ns);
    }
    c->busy = false;
    busy--;
    if (c->reader.closing) {
        connection_close(c);
        if (phase < DRAINING)
            connection_open(c);
    } else {
        next_request(c);
    }
}

/* Takes one line of a stream. */
static bool on_line(void *owner, const char *line)
{
    struct connection *c = owner;
    const struct dialect *dialect = options.dialect;
    if (strncmp(line, dialect->done, strlen(dialect->done)) == 0)
        c->done = true;
    const char *stamp = strstr(line, dialect->stamp);
    if (!stamp) {
        c->reader.complaint = strncmp(line, "data: {\"error\"", 14) == 0 ? line : NULL;
        return !c->reader.complaint;
    }
    c->chunks++;
    if (phase == MEASURING) {
        uint64_t made_ns = strtoull(stamp + strlen(dialect->stamp), NULL, 10);
        chunks_counted++;
        histogram_add(&durations, received_ns > made_ns ? received_ns - made_ns : 0);
    }
    return true;
}

static void on_ready(struct connection *c, uint32_t ready)
{
    struct reader *r = &c->reader;
    if (c->busy && c->sent < request_length)
        write_request(c);
    for (int fd = c->fd; fd >= 0 && c->fd == fd && ready & ~(uint32_t)EPOLLOUT;) {
        size_t room = READER_CAPACITY - 1 - r->length;
        ssize_t count = recv(fd, r->in + r->length, room, 0);
        if (count < 0 && errno == EAGAIN)
            return;
        if (count <= 0 && c->busy)
            fail(c, "connection", count < 0 ? strerror(errno) : "closed before the answer was complete");
        else if (count <= 0)
            connection_close(c); /* an idle one: the open loop connects it again when its turn comes */
        if (count <= 0)
            return;
        received_ns = now_ns();
        r->length += (size_t)count;
        enum progress progress = reader_consume(r, on_line, c);
        if (progress == COMPLETE)
            finish_answer(c);
        else if (progress == STOPPED)
            fail(c, options.chunks ? "stream" : "answer", r->complaint);
        if ((size_t)count < room && !(ready & EPOLLRDHUP))
            return; /* a short read has emptied the socket */
    }
}

static void mark_window(int side)
{
    window[side].time = now_ns();
    window[side].subject = cpu_ns(&options.subjects);
    window[side].harness = cpu_ns(&options.harness);
    window[side].machine = machine_busy_ns();
    window[side].rss_kib = rss_kib(&options.subjects);
}

/* Moves on to the phase that time (or the number of answers) has reached; returns when to look again. */
static uint64_t advance_phase(void)
{
    uint64_t now = now_ns();
    uint64_t ramp_ns = (uint64_t)(options.ramp_s * 1e9), warm_ns = (uint64_t)(options.warm_s * 1e9);
    uint64_t end_ns = window[0].time + (uint64_t)(options.seconds * 1e9);
    if (phase == OPENING) {
        uint64_t step = ramp_ns / (uint64_t)options.connections;
        while (opened < options.connections && now >= begin_ns + step * (uint64_t)opened)
            connection_open(&connections[opened++]);
        if (phase == OPENING && opened == options.connections)
            phase = WARMING;
        else
            return begin_ns + step * (uint64_t)opened;
    }
    if (phase == WARMING && now >= begin_ns + ramp_ns + warm_ns) {
        mark_window(0);
        phase = MEASURING;
        end_ns = window[0].time + (uint64_t)(options.seconds * 1e9);
    }
    bool enough = options.requests && answers_total + errors >= options.requests;
    if (phase == MEASURING && (now >= end_ns || enough)) {
        mark_window(1);
        phase = options.chunks ? ENDED : DRAINING;
    }
    if (phase == DRAINING && (!busy || now > window[1].time + DRAIN_NS)) {
        errors += (uint64_t)busy;
        phase = ENDED;
    }
    return phase == WARMING ? begin_ns + ramp_ns + warm_ns : phase == MEASURING ? end_ns : now + NS_PER_S / 10;
}

static void run(void)
{
    struct epoll_event events[EVENTS_PER_TURN];
    begin_ns = due_ns = now_ns();
    while (phase != ENDED) {
        uint64_t deadline = advance_phase();
        if (phase == ENDED)
            break;
        uint64_t due = options.rate > 0 ? dispatch() : NEVER;
        int ready = wait_events(epoll_fd, events, due < deadline ? due : deadline);
        for (int i = 0; i < ready; i++)
            on_ready(events[i].data.ptr, events[i].events);
    }
    if (!window[0].time)
        mark_window(0);
    if (!window[1].time)
        mark_window(1);
}

static void report(void)
{
    double elapsed = (double)(window[1].time - window[0].time);
    double subject = (double)(window[1].subject - window[0].subject);
    double harness = (double)(window[1].harness - window[0].harness);
    double machine = (double)(window[1].machine - window[0].machine);
    double others = machine - subject - harness;
    uint64_t units = options.chunks ? chunks_counted : answers_counted;
    printf("{\"connections\": %d, \"seconds\": %.3f, \"count\": %llu, \"per_s\": %.1f, ", options.connections,
           elapsed / 1e9, (unsigned long long)units, (double)units * 1e9 / elapsed);
    printf("\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, ", histogram_us(&durations, 0.5),
           histogram_us(&durations, 0.99), (double)durations.largest / 1e3);
    printf("\"cpu_us\": %.2f, \"subject_busy\": %.3f, \"harness_busy\": %.3f, \"others_busy\": %.3f, ",
           units ? subject / 1e3 / (double)units : 0, subject / elapsed, harness / elapsed,
           others > 0 ? others / elapsed : 0);
    printf("\"rss_kib\": %ld, ", window[1].rss_kib);
    printf("\"sent\": %llu, \"answered\": %llu, ", (unsigned long long)requests_sent,
           (unsigned long long)answers_total);
    printf("\"errors\": %llu, \"first_error\": \"%s\"}\n", (unsigned long long)errors, first_error);
}

int main(int count, char **arguments)
{
    read_options(count, arguments);
    prepare_process();
    build_request();
    add_process(&options.harness, getpid());
    connections = malloc((size_t)options.connections * sizeof *connections);
    idle = calloc((size_t)options.connections, sizeof(struct connection *));
    if (!connections || !idle)
        die("out of memory");
    for (int i = 0; i < options.connections; i++)
        connections[i] = (struct connection){.fd = -1};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    run();
    report();
    return 0;
}
