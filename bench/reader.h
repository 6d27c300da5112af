/* Reads the HTTP/1.1 answers of one connection: heads, bodies of known length and chunked ones, in lines. */
#ifndef BENCH_READER_H
#define BENCH_READER_H

#include "net.h"

#define READER_CAPACITY 16384
#define LINE_CAPACITY 1024 /* longer lines are cut: what load.c looks for stands at their beginning */

enum expect { HEAD, BODY, CHUNK_SIZE, CHUNK_DATA, TRAILER };
enum progress { UNFINISHED, COMPLETE, STOPPED };

/* Each body line, without its end; false stops the reading. */
typedef bool (*line_handler)(void *owner, const char *line);

struct reader {
    enum expect expect;
    bool closing;         /* the answer said `Connection: close` */
    const char *complaint; /* what was wrong, when reading stopped here; points to text in `in` or to a constant */
    uint64_t rest;        /* of the body or chunk */
    size_t length, line_length;
    char in[READER_CAPACITY], line[LINE_CAPACITY];
};

/* Makes the reader ready for the next answer. */
static inline void reader_reset(struct reader *r)
{
    r->expect = HEAD;
    r->closing = false;
    r->complaint = NULL;
    r->length = r->line_length = 0;
}

static inline bool reader_body(struct reader *r, const char *data, size_t length, line_handler on_line, void *owner)
{
    while (length) {
        const char *feed = memchr(data, '\n', length);
        size_t piece = feed ? (size_t)(feed - data) : length;
        size_t room = LINE_CAPACITY - 1 - r->line_length;
        size_t kept = piece < room ? piece : room;
        memcpy(r->line + r->line_length, data, kept);
        r->line_length += kept;
        if (!feed)
            return true;
        r->line[r->line_length] = 0;
        r->line_length = 0;
        if (!on_line(owner, r->line))
            return false;
        data += piece + 1;
        length -= piece + 1;
    }
    return true;
}

static inline bool reader_head(struct reader *r, const char *head, size_t length)
{
    const char *connection = header_value(head, length, "connection:");
    const char *content_length = header_value(head, length, "content-length:");
    bool chunked = header_value(head, length, "transfer-encoding:") != NULL;
    r->closing = connection && strncasecmp(connection, "close", 5) == 0;
    r->expect = chunked ? CHUNK_SIZE : BODY;
    r->rest = content_length ? strtoull(content_length, NULL, 10) : 0;
    if (length < 16 || strncmp(head, "HTTP/1.1 200", 12) != 0)
        r->complaint = head;
    else if (!content_length && !chunked)
        r->complaint = "neither content-length nor chunked";
    return !r->complaint;
}

/* Takes one element (head, size line, data) from the front; returns its length, 0 when more is needed. */
static inline size_t reader_take(struct reader *r, const char *data, size_t length, line_handler on_line, void *owner,
                                 enum progress *progress)
{
    if (r->expect == BODY || r->expect == CHUNK_DATA) {
        uint64_t framing = r->expect == CHUNK_DATA ? 2 : 0; /* CR LF after the data is counted in `rest` */
        size_t piece = length < r->rest ? length : (size_t)r->rest;
        size_t body = r->rest <= framing ? 0 : piece < r->rest - framing ? piece : (size_t)(r->rest - framing);
        if (!reader_body(r, data, body, on_line, owner))
            *progress = STOPPED;
        r->rest -= piece;
        if (!r->rest && r->expect == BODY)
            *progress = COMPLETE;
        else if (!r->rest)
            r->expect = CHUNK_SIZE;
        return piece;
    }
    const char *mark = r->expect == HEAD ? "\r\n\r\n" : "\r\n";
    const char *end = memmem(data, length, mark, strlen(mark));
    if (!end)
        return 0;
    size_t used = (size_t)(end - data) + strlen(mark);
    if (r->expect == HEAD) {
        *progress = reader_head(r, data, used) ? UNFINISHED : STOPPED;
    } else if (r->expect == TRAILER) {
        *progress = used == 2 ? COMPLETE : UNFINISHED;
    } else {
        r->rest = strtoull(data, NULL, 16);
        r->expect = r->rest ? CHUNK_DATA : TRAILER;
        r->rest += 2;
    }
    return used;
}

/* Reads what has been received into `in`; of an unfinished element the beginning stays there. */
static inline enum progress reader_consume(struct reader *r, line_handler on_line, void *owner)
{
    size_t start = 0, used = 1;
    enum progress progress = UNFINISHED;
    r->in[r->length] = 0;
    while (start < r->length && used && progress == UNFINISHED) {
        used = reader_take(r, r->in + start, r->length - start, on_line, owner, &progress);
        start += used;
    }
    if (progress == STOPPED)
        return STOPPED;
    r->length -= start;
    memmove(r->in, r->in + start, r->length);
    if (r->length < READER_CAPACITY - 1)
        return progress;
    r->complaint = "a head too long for this reader";
    return STOPPED;
}

#endif
