/* mock: an upstream that speaks OpenAI's chat completions, fast enough not to be what is measured.
 *
 *   mock PORT          listens on 127.0.0.1:PORT (0: any free port) and prints "listening PORT"
 *
 * POST …/chat/completions answers about 700 bytes of JSON with usage. With "stream": true in the body
 * it answers server-sent events: a role chunk, "bench_chunks" content chunks of about 220 bytes at
 * "bench_rate" a second (0: as fast as the reader takes them), the finish reason, usage if asked for,
 * and [DONE]. Each content chunk begins with the time at which it was made (see STAMP_MARK).
 *
 * One thread, edge-triggered epoll, and a timer wheel of 1 ms slots for the paced streams.
 */
#define _GNU_SOURCE
#include "net.h"

#define IN_CAPACITY (256 * 1024) /* of one request; pages that are never touched cost nothing */
#define OUT_CAPACITY (64 * 1024)
#define LARGEST_WRITE 2048 /* more than any head, frame or tail: what must fit before one is added */
#define WHEEL_SLOTS 2048   /* of 1 ms: more than the longest period, that of 1 chunk/s */
#define DEFAULT_CHUNKS 100
#define DEFAULT_RATE 50
#define CONTENT_BYTES 220 /* of one content frame, as providers send them for a token or two */

struct connection {
    int fd;
    size_t in_length, out_start, out_length;
    /* The running stream: frames not yet written (content frames and one tail), how many of them are due
     * already, and when the next becomes due. A stream is on the wheel while ticks are to come. */
    uint32_t frames_left, frames_due, ticks_left;
    uint64_t next_ns, period_ns;
    bool with_usage;
    struct connection *next, **link;
    char in[IN_CAPACITY], out[OUT_CAPACITY];
};

static int epoll_fd;
static struct connection *wheel[WHEEL_SLOTS];
static size_t on_wheel;
static uint64_t wheel_ms; /* the last millisecond whose slot was emptied */

static char content_frame[CONTENT_BYTES + 16]; /* with its HTTP chunk framing */
static size_t content_length, stamp_offset;
static char json_answer[2048];
static size_t json_length;

#define CHUNK_MEMBERS \
    "\"id\":\"chatcmpl-bench0001\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
    "\"model\":\"mock-model\","
#define USAGE "\"usage\":{\"prompt_tokens\":410,\"completion_tokens\":%u,\"total_tokens\":%u}"

static const char stream_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                                  "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

/* Writes one HTTP chunk and returns its length. */
static size_t http_chunk(char *to, const char *data, size_t length)
{
    int head = sprintf(to, "%zx\r\n", length);
    memcpy(to + head, data, length);
    memcpy(to + head + length, "\r\n", 2);
    return (size_t)head + length + 2;
}

static void prepare_answers(void)
{
    static const char before[] = "data: {" CHUNK_MEMBERS "\"choices\":[{\"index\":0,\"delta\":{" STAMP_MARK;
    static const char after[] = "\"},\"finish_reason\":null}]}\n\n";
    char frame[CONTENT_BYTES + 1];
    memset(frame, '.', CONTENT_BYTES);
    memcpy(frame, before, sizeof before - 1);
    memset(frame + sizeof before - 1, '0', STAMP_DIGITS);
    memcpy(frame + CONTENT_BYTES - (sizeof after - 1), after, sizeof after - 1);
    content_length = http_chunk(content_frame, frame, CONTENT_BYTES);
    char *mark = memmem(content_frame, content_length, STAMP_MARK, strlen(STAMP_MARK));
    stamp_offset = (size_t)(mark - content_frame) + strlen(STAMP_MARK);

    char text[401], body[1024];
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = i % 7 == 6 ? ' ' : (char)('a' + i % 26);
    text[sizeof text - 1] = 0;
    int length = snprintf(body, sizeof body,
                          "{\"id\":\"chatcmpl-bench0001\",\"object\":\"chat.completion\",\"created\":1700000000,"
                          "\"model\":\"mock-model\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                          "\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE "}",
                          text, 100u, 510u);
    json_length = (size_t)snprintf(json_answer, sizeof json_answer,
                                   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                                   length, body);
}

static void wheel_remove(struct connection *c)
{
    if (!c->link)
        return;
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    c->link = NULL;
    on_wheel--;
}

static void wheel_insert(struct connection *c)
{
    uint64_t due_ms = c->next_ns / NS_PER_MS;
    if (due_ms <= wheel_ms)
        due_ms = wheel_ms + 1;
    struct connection **slot = &wheel[due_ms % WHEEL_SLOTS];
    c->next = *slot;
    if (c->next)
        c->next->link = &c->next;
    c->link = slot;
    *slot = c;
    on_wheel++;
}

static void drop(struct connection *c)
{
    wheel_remove(c);
    close(c->fd);
    free(c);
}

static void put(struct connection *c, const char *data, size_t length)
{
    memcpy(c->out + c->out_length, data, length);
    c->out_length += length;
}

static void put_event(struct connection *c, const char *event)
{
    c->out_length += http_chunk(c->out + c->out_length, event, strlen(event));
}

static void put_content(struct connection *c)
{
    char *stamp = c->out + c->out_length + stamp_offset;
    put(c, content_frame, content_length);
    uint64_t now = now_ns();
    for (int digit = STAMP_DIGITS - 1; digit >= 0; digit--, now /= 10)
        stamp[digit] = (char)('0' + now % 10);
}

static void put_tail(struct connection *c)
{
    put_event(c, "data: {" CHUNK_MEMBERS "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    if (c->with_usage) {
        char event[512];
        snprintf(event, sizeof event, "data: {" CHUNK_MEMBERS "\"choices\":[]," USAGE "}\n\n", 100u, 510u);
        put_event(c, event);
    }
    put_event(c, "data: [DONE]\n\n");
    put(c, "0\r\n\r\n", 5);
}

/* Sends what is waiting; false when the peer is gone. */
static bool flush(struct connection *c)
{
    while (c->out_start < c->out_length) {
        ssize_t sent = send(c->fd, c->out + c->out_start, c->out_length - c->out_start, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN;
        c->out_start += (size_t)sent;
    }
    c->out_start = c->out_length = 0;
    return true;
}

/* Writes the frames that are due, as far as the peer takes them; false when it is gone. */
static bool pump(struct connection *c)
{
    for (;;) {
        while (c->frames_due && c->out_length + LARGEST_WRITE <= OUT_CAPACITY) {
            if (c->frames_left == 1)
                put_tail(c);
            else
                put_content(c);
            c->frames_left--;
            c->frames_due--;
        }
        if (!flush(c))
            return false;
        if (!c->frames_due || c->out_length)
            return true;
    }
}

static void begin_stream(struct connection *c, const char *body)
{
    const char *chunks = json_value(body, "\"bench_chunks\"");
    const char *rate_text = json_value(body, "\"bench_rate\"");
    const char *usage = json_value(body, "\"include_usage\"");
    double rate = rate_text ? atof(rate_text) : DEFAULT_RATE;
    c->frames_left = (chunks ? (uint32_t)atoi(chunks) : DEFAULT_CHUNKS) + 1;
    c->with_usage = usage && strncmp(usage, "true", 4) == 0;
    put(c, stream_head, sizeof stream_head - 1);
    put_event(c, "data: {" CHUNK_MEMBERS "\"choices\":[{\"index\":0,"
                 "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n");
    if (rate <= 0) {
        c->frames_due = c->frames_left;
        return;
    }
    /* Streams that begin together must not stay in step: each gets a phase of its own from its request's time. */
    uint64_t now = now_ns();
    c->frames_due = 0;
    c->ticks_left = c->frames_left;
    c->period_ns = (uint64_t)((double)NS_PER_S / (rate < 1 ? 1 : rate));
    c->next_ns = now + (now * 2654435761u >> 8) % c->period_ns;
    if (!on_wheel)
        wheel_ms = now / NS_PER_MS;
    wheel_insert(c);
}

static void answer(struct connection *c, const char *head, const char *body)
{
    static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n"
                                  "Content-Length: 38\r\n\r\n"
                                  "{\"error\":{\"message\":\"no such path\"}}\r\n";
    size_t path_end = strcspn(head, "\r");
    if (strncmp(head, "POST ", 5) != 0 || !memmem(head, path_end, "/chat/completions ", 18)) {
        put(c, missing, sizeof missing - 1);
        return;
    }
    const char *stream = json_value(body, "\"stream\"");
    if (stream && strncmp(stream, "true", 4) == 0)
        begin_stream(c, body);
    else
        put(c, json_answer, json_length);
}

/* Answers the request in `in` once it is whole; false when the connection must end. There is no
 * pipelining: a request that arrives while another is answered would be dropped. */
static bool serve(struct connection *c)
{
    c->in[c->in_length] = 0;
    char *head_end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
    if (!head_end)
        return c->in_length < IN_CAPACITY - 1;
    size_t head_length = (size_t)(head_end - c->in) + 4;
    const char *length_text = header_value(c->in, head_length, "content-length:");
    if (header_value(c->in, head_length, "transfer-encoding:"))
        return false; /* bodies of unknown length are not spoken here */
    size_t length = length_text ? strtoul(length_text, NULL, 10) : 0;
    if (head_length + length >= IN_CAPACITY)
        return false;
    if (c->in_length < head_length + length)
        return true;
    c->in_length = 0;
    answer(c, c->in, c->in + head_length);
    return pump(c);
}

/* Reads and writes as far as both go; false when the connection must end. */
static bool on_ready(struct connection *c, uint32_t ready)
{
    if ((c->out_length || c->frames_due) && !pump(c))
        return false;
    while (ready & ~(uint32_t)EPOLLOUT) {
        size_t room = IN_CAPACITY - 1 - c->in_length;
        ssize_t count = recv(c->fd, c->in + c->in_length, room, 0);
        if (count < 0)
            return errno == EAGAIN;
        if (count == 0)
            return false;
        c->in_length += (size_t)count;
        if (!serve(c))
            return false;
        if ((size_t)count < room && !(ready & EPOLLRDHUP))
            return true;
    }
    return true;
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = malloc(sizeof *c);
        if (!c)
            die("out of memory");
        memset(c, 0, offsetof(struct connection, in)); /* clearing the buffers would cost more than a request */
        no_delay(fd);
        c->fd = fd;
        watch(epoll_fd, fd, c);
    }
}

static void on_tick(struct connection *c)
{
    c->frames_due++;
    c->next_ns += c->period_ns;
    if (--c->ticks_left)
        wheel_insert(c);
    if (!pump(c))
        drop(c);
}

/* Fires all streams that are due in the milliseconds up to now. */
static void advance_wheel(void)
{
    uint64_t now_ms = now_ns() / NS_PER_MS;
    if (now_ms > wheel_ms + WHEEL_SLOTS)
        wheel_ms = now_ms - WHEEL_SLOTS;
    while (on_wheel && wheel_ms < now_ms) {
        struct connection *due = wheel[++wheel_ms % WHEEL_SLOTS];
        wheel[wheel_ms % WHEEL_SLOTS] = NULL;
        while (due) {
            struct connection *c = due;
            due = c->next;
            c->link = NULL;
            on_wheel--;
            on_tick(c);
        }
    }
}

int main(int count, char **arguments)
{
    if (count != 2)
        die("usage: mock PORT");
    prepare_process();
    prepare_answers();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = loopback(atoi(arguments[1]));
    socklen_t length = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0)
        die("cannot listen on 127.0.0.1:%s: %s", arguments[1], strerror(errno));
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll_fd, listener, NULL);
    struct epoll_event events[EVENTS_PER_TURN];
    for (;;) {
        int ready = wait_events(epoll_fd, events, on_wheel ? (wheel_ms + 1) * NS_PER_MS : NEVER);
        for (int i = 0; i < ready; i++) {
            if (!events[i].data.ptr)
                accept_all(listener);
            else if (!on_ready(events[i].data.ptr, events[i].events))
                drop(events[i].data.ptr);
        }
        advance_wheel();
    }
}
