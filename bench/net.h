/* What mock.c and load.c share: clock, sockets, epoll, and reading of HTTP/1.1 heads and flat JSON. */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define NEVER UINT64_MAX
#define EVENTS_PER_TURN 256

/* Digits of the time stamp in each content chunk, in ns of the monotonic clock, which all processes
 * of one machine share. 18 digits last for 31 years after boot. */
#define STAMP_MARK "\"content\":\"@"
#define STAMP_DIGITS 18

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Raises the descriptor limit to the hard one, and asks for wake-ups without the kernel's usual 50 us of slack. */
static inline void prepare_process(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    prctl(PR_SET_TIMERSLACK, 1ul);
}

static inline struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline void no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Edge-triggered for both directions: registered once, never modified. A reader may stop at a short read
 * (epoll(7)) unless EPOLLRDHUP was reported with it. */
static inline void watch(int epoll_fd, int fd, void *owner)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = owner};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Waits for events until `deadline_ns` (NEVER: without limit). */
static inline int wait_events(int epoll_fd, struct epoll_event *events, uint64_t deadline_ns)
{
    struct timespec timeout, *limit = NULL;
    if (deadline_ns != NEVER) {
        uint64_t now = now_ns(), rest = deadline_ns > now ? deadline_ns - now : 0;
        timeout = (struct timespec){.tv_sec = (time_t)(rest / NS_PER_S), .tv_nsec = (long)(rest % NS_PER_S)};
        limit = &timeout;
    }
    int count = epoll_pwait2(epoll_fd, events, EVENTS_PER_TURN, limit, NULL);
    if (count < 0 && errno != EINTR)
        die("epoll_pwait2: %s", strerror(errno));
    return count < 0 ? 0 : count;
}

/* The value of header `name` ("content-length:", lower case with its colon) in a head, or NULL. */
static inline const char *header_value(const char *head, size_t length, const char *name)
{
    size_t name_length = strlen(name);
    const char *line = head, *end = head + length;
    while (line < end) {
        if ((size_t)(end - line) > name_length && strncasecmp(line, name, name_length) == 0) {
            line += name_length;
            return line + strspn(line, " \t");
        }
        const char *feed = memchr(line, '\n', (size_t)(end - line));
        if (!feed)
            return NULL;
        line = feed + 1;
    }
    return NULL;
}

/* The value of the first member `name` (quotes included) anywhere in a JSON text ended by NUL, or NULL.
 * Enough for bodies that load.c writes; it does not tell members from text inside strings. */
static inline const char *json_value(const char *text, const char *name)
{
    const char *found = strstr(text, name);
    return found ? found + strlen(name) + strspn(found + strlen(name), " \t\r\n:") : NULL;
}

#endif
