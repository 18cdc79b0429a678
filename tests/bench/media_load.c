/* The load of ./dev bench media: plays the carrier and the agent for many calls at once, on one core.
 *
 * Every 20 ms a call's carrier side sends a numbered frame to the bridge; the agent side checks its number and sends
 * the same sound back; the carrier side checks it again. So every frame that is lost, out of order or on the wrong
 * call is seen, and each round trip is two relayed frames. Built by the bench with the system's C compiler.
 *
 * usage: media_load HOST PORT AGENT_PORT CALLS_FILE paced|flood|idle WARM SECONDS
 * CALLS_FILE has a line for each call: its path on the bridge, and its call id.
 * Prints "connected", "begin", "end", then one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define AUDIO 216             /* base64 characters of 160 bytes */
#define RING 4096             /* send times kept for each call */
#define BUCKET_NS 10000
#define BUCKETS 200000        /* round trips up to two seconds */
#define PERIOD_NS 20000000ULL

typedef unsigned long long u64;

enum kind { LISTENER, CARRIER, AGENT };
enum state { CONNECTING, HANDSHAKE, OPEN, CLOSED };

struct conn {
    enum kind kind;
    enum state state;
    int fd, index; /* index: which call; -1 on an agent's side until its first frame */
    uint32_t sent, seen;
    size_t have, room;
    unsigned char *in;
    size_t pending;
    char *out;
    u64 due;
    u64 *times;
    char path[600], call_id[128];
};

static int epoll_fd, calls, agents_open, carriers_open, started;
static struct conn *carriers;
static struct sockaddr_in bridge;
static const char *host;
static u64 relayed, lost, reordered, misrouted, broken, marks, late_max, received, transmitted, stray;
static int measuring;
static uint32_t *histogram;
static u64 samples;

static u64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "media_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(struct conn *c, uint32_t events, int operation) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &e) < 0) die("epoll_ctl");
}

static void unblock(int fd) {
    int one = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void hang_up(struct conn *c, int unexpected) {
    if (c->state == CLOSED) return;
    if (unexpected) broken++;
    c->state = CLOSED;
    close(c->fd);
}

static void put(struct conn *c, const void *data, size_t size) {
    if (c->state == CLOSED) return;
    if (!c->pending) {
        ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
        if (n == (ssize_t)size) return;
        if (n < 0) {
            if (errno != EAGAIN) { hang_up(c, 1); return; }
            n = 0;
        }
        data = (const char *)data + n;
        size -= n;
        watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    }
    c->out = realloc(c->out, c->pending + size);
    memcpy(c->out + c->pending, data, size);
    c->pending += size;
}

static void put_rest(struct conn *c) {
    ssize_t n = send(c->fd, c->out, c->pending, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN) hang_up(c, 1);
        return;
    }
    memmove(c->out, c->out + n, c->pending -= n);
    if (!c->pending) watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

/* One WebSocket frame; the carrier is a client and masks, with the mask nought that changes nothing. */
static void put_frame(struct conn *c, int opcode, const char *text, size_t size) {
    unsigned char frame[2048];
    size_t at = 2;
    int mask = c->kind == CARRIER;
    frame[0] = 0x80 | opcode;
    if (size < 126) {
        frame[1] = size | mask << 7;
    } else {
        frame[1] = 126 | mask << 7;
        frame[2] = size >> 8;
        frame[3] = size & 255;
        at = 4;
    }
    if (mask) { memset(frame + at, 0, 4); at += 4; }
    memcpy(frame + at, text, size);
    put(c, frame, at + size);
}

/* Numbers as letters A to P: base64 text whose sound no codec changes on the way through. */
static void write_number(char *at, uint32_t value, int digits) {
    while (digits--) { at[digits] = 'A' + (value & 15); value >>= 4; }
}

static int read_number(const unsigned char *at, int digits, uint32_t *value) {
    *value = 0;
    while (digits--) {
        if (*at < 'A' || *at > 'P') return 0;
        *value = *value << 4 | (uint32_t)(*at++ - 'A');
    }
    return 1;
}

static void send_sound(struct conn *c) {
    static char text[600];
    char audio[AUDIO + 1];
    memset(audio, 'f', AUDIO);
    memcpy(audio + AUDIO - 3, "g==", 3);
    audio[AUDIO] = 0;
    write_number(audio, c->index, 4);
    write_number(audio + 4, ++c->sent, 8);
    int size = snprintf(text, sizeof text,
        "{\"event\":\"media\",\"sequenceNumber\":\"%u\",\"media\":{\"track\":\"inbound\",\"chunk\":\"%u\","
        "\"timestamp\":\"%u\",\"payload\":\"%s\"},\"streamSid\":\"MZ%032d\"}",
        c->sent + 1, c->sent, c->sent * 20, audio, c->index);
    c->times[c->sent % RING] = now_ns();
    transmitted++;
    put_frame(c, 1, text, size);
}

static const unsigned char *payload_of(const unsigned char *text, size_t size) {
    const unsigned char *at = memmem(text, size, "\"payload\"", 9), *end = text + size;
    if (!at) return NULL;
    for (at += 9; at < end && (*at == ' ' || *at == ':'); at++) {}
    return at < end - 13 && *at == '"' ? at + 1 : NULL;
}

static void count(struct conn *c, uint32_t number) {
    if (number == c->seen + 1) { c->seen = number; return; }
    if (number > c->seen) { lost += number - c->seen - 1; c->seen = number; return; }
    reordered++;
}

static int flood;

static void sound(struct conn *c, const unsigned char *audio) {
    uint32_t index, number;
    if (!read_number(audio, 4, &index) || !read_number(audio + 4, 8, &number)) { stray++; return; }
    if (c->kind == AGENT && c->index < 0) c->index = index;
    if ((int)index != c->index) { misrouted++; return; }
    count(c, number);
    if (measuring) relayed++;
    if (c->kind == AGENT) {
        static const char head[] = "{\"event\":\"media\",\"media\":{\"payload\":\"";
        char text[sizeof head + AUDIO + 3];
        memcpy(text, head, sizeof head - 1);
        memcpy(text + sizeof head - 1, audio, AUDIO);
        memcpy(text + sizeof head - 1 + AUDIO, "\"}}", 3);
        put_frame(c, 1, text, sizeof head - 1 + AUDIO + 3);
        return;
    }
    received++;
    if (measuring) {
        u64 bucket = (now_ns() - c->times[number % RING]) / BUCKET_NS;
        histogram[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
        samples++;
    }
    if (flood && started) send_sound(c);
}

static void echo_mark(struct conn *c, const unsigned char *text, size_t size) {
    char answer[300];
    const unsigned char *at = memmem(text, size, "\"name\"", 6), *end = text + size;
    if (!at) return;
    for (at += 6; at < end && *at != '"'; at++) {}
    int length = 0;
    while (at + 1 + length < end && at[1 + length] != '"' && length < 100) length++;
    int n = snprintf(answer, sizeof answer,
        "{\"event\":\"mark\",\"sequenceNumber\":\"1\",\"streamSid\":\"MZ%032d\",\"mark\":{\"name\":\"%.*s\"}}", c->index,
        length, at + 1);
    marks++;
    put_frame(c, 1, answer, n);
}

static void message(struct conn *c, int opcode, unsigned char *text, size_t size) {
    const unsigned char *audio;
    if (opcode == 9) put_frame(c, 10, (char *)text, size);
    else if (opcode == 8) hang_up(c, 1);
    else if (opcode == 1 || opcode == 2) {
        if ((audio = payload_of(text, size))) sound(c, audio);
        else if (c->kind == CARRIER && memmem(text, size, "\"mark\"", 6)) echo_mark(c, text, size);
    }
}

/* SHA-1 and base64 of a short text, for the one header that proves we read the handshake. */
static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void accept_key(const char *key, char *answer) {
    unsigned char block[128] = {0}, digest[21] = {0};
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0}, w[80];
    size_t size = snprintf((char *)block, 120, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    int blocks = size + 9 > 64 ? 2 : 1;
    block[size] = 0x80;
    block[blocks * 64 - 2] = size * 8 >> 8;
    block[blocks * 64 - 1] = size * 8 & 255;
    for (int b = 0; b < blocks; b++) {
        for (int i = 0; i < 16; i++) {
            unsigned char *p = block + b * 64 + i * 4;
            w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t v[5];
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (v[1] & v[2]) | (~v[1] & v[3]) : i < 40 || i >= 60 ? v[1] ^ v[2] ^ v[3]
                                                       : (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]);
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t t = rotate(v[0], 5) + f + v[4] + k + w[i];
            v[4] = v[3]; v[3] = v[2]; v[2] = rotate(v[1], 30); v[1] = v[0]; v[0] = t;
        }
        for (int i = 0; i < 5; i++) h[i] += v[i];
    }
    for (int i = 0; i < 20; i++) digest[i] = h[i / 4] >> (24 - i % 4 * 8);
    for (int i = 0; i < 7; i++) {
        unsigned char *p = digest + i * 3;
        answer[i * 4] = letters[p[0] >> 2];
        answer[i * 4 + 1] = letters[(p[0] & 3) << 4 | p[1] >> 4];
        answer[i * 4 + 2] = letters[(p[1] & 15) << 2 | p[2] >> 6];
        answer[i * 4 + 3] = letters[p[2] & 63];
    }
    answer[27] = '=';
    answer[28] = 0;
}

static int next_call;

static void dial_next(void) {
    while (next_call < calls && next_call - carriers_open < 16) {
        struct conn *c = &carriers[next_call];
        c->kind = CARRIER;
        c->index = next_call++;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (c->fd < 0) die("socket");
        unblock(c->fd);
        if (connect(c->fd, (struct sockaddr *)&bridge, sizeof bridge) < 0 && errno != EINPROGRESS) die("connect");
        c->state = CONNECTING;
        watch(c, EPOLLOUT, EPOLL_CTL_ADD);
    }
}

static void greet(struct conn *c) { /* connected, and start: what a carrier says first */
    char text[1000];
    int n = snprintf(text, sizeof text, "{\"event\":\"connected\",\"protocol\":\"Call\",\"version\":\"1.0.0\"}");
    put_frame(c, 1, text, n);
    n = snprintf(text, sizeof text,
        "{\"event\":\"start\",\"sequenceNumber\":\"1\",\"start\":{\"accountSid\":\"AC%032d\",\"streamSid\":\"MZ%032d\","
        "\"callSid\":\"%s\",\"tracks\":[\"inbound\"],\"mediaFormat\":{\"encoding\":\"audio/x-mulaw\","
        "\"sampleRate\":8000,\"channels\":1},\"customParameters\":{\"index\":\"%d\"}},\"streamSid\":\"MZ%032d\"}",
        0, c->index, c->call_id, c->index, c->index);
    put_frame(c, 1, text, n);
}

static size_t shake_hands(struct conn *c) {
    unsigned char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    if (c->kind == CARRIER) {
        if (strncmp((char *)c->in, "HTTP/1.1 101", 12)) {
            fprintf(stderr, "media_load: the bridge answered: %.60s\n", c->in);
            exit(1);
        }
        c->state = OPEN;
        carriers_open++;
        greet(c);
        dial_next();
    } else {
        char answer[400], accept[32], key[40] = "";
        char *found = strcasestr((char *)c->in, "sec-websocket-key:");
        if (found) sscanf(found + 18, " %39[^\r\n ]", key);
        accept_key(key, accept);
        int n = snprintf(answer, sizeof answer,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: %s\r\nx-use-inkbox-text-to-speech: false\r\n"
            "x-use-inkbox-speech-to-text: false\r\n\r\n", accept);
        put(c, answer, n);
        c->state = OPEN;
        agents_open++;
    }
    return end + 4 - c->in;
}

static void readable(struct conn *c) {
    if (c->room - c->have < 4096) c->in = realloc(c->in, c->room = c->room ? 2 * c->room : 8192);
    ssize_t n = recv(c->fd, c->in + c->have, c->room - c->have, 0);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN) return;
        hang_up(c, 1);
        return;
    }
    c->have += n;
    size_t at = 0;
    if (c->state == HANDSHAKE && !(at = shake_hands(c))) return;
    while (c->state == OPEN && c->have - at >= 2) {
        unsigned char *p = c->in + at;
        size_t size = p[1] & 127, head = 2;
        int masked = p[1] >> 7;
        if (size == 126) {
            if (c->have - at < 4) break;
            size = (size_t)p[2] << 8 | p[3];
            head = 4;
        } else if (size == 127) {
            if (c->have - at < 10) break;
            size = (size_t)p[6] << 24 | p[7] << 16 | p[8] << 8 | p[9];
            head = 10;
        }
        if (c->have - at < head + 4 * masked + size) break;
        unsigned char *text = p + head + 4 * masked;
        if (masked)
            for (size_t i = 0; i < size; i++) text[i] ^= p[head + (i & 3)];
        message(c, p[0] & 15, text, size);
        at += head + 4 * masked + size;
    }
    if (at) memmove(c->in, c->in + at, c->have -= at);
}

static void handle(struct conn *c, uint32_t events) {
    if (c->kind == LISTENER) {
        int fd;
        while ((fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
            struct conn *agent = calloc(1, sizeof *agent);
            agent->kind = AGENT;
            agent->state = HANDSHAKE;
            agent->fd = fd;
            agent->index = -1;
            unblock(fd);
            watch(agent, EPOLLIN, EPOLL_CTL_ADD);
        }
        return;
    }
    if (c->state == CLOSED) return;
    if (c->state == CONNECTING) {
        char request[1000];
        int problem = 0;
        socklen_t size = sizeof problem;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
        if (problem) { errno = problem; die("connect"); }
        c->state = HANDSHAKE;
        watch(c, EPOLLIN, EPOLL_CTL_MOD);
        int n = snprintf(request, sizeof request,
            "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", c->path, host);
        put(c, request, n);
        return;
    }
    if (events & EPOLLOUT && c->pending) put_rest(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

static void turn(u64 until) {
    struct epoll_event events[256];
    u64 now = now_ns(), wait = until > now ? until - now : 0;
    struct timespec t = {wait / 1000000000ULL, wait % 1000000000ULL};
    int n = syscall(SYS_epoll_pwait2, epoll_fd, events, 256, &t, NULL, 0);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) handle(events[i].data.ptr, events[i].events);
}

static double quantile(double share) {
    u64 left = samples * share, sum = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((sum += histogram[i]) > left) return (i + 0.5) * BUCKET_NS / 1e6;
    return -1;
}

static void say(const char *word) { printf("%s\n", word); fflush(stdout); }

static double cpu(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static int turn_of; /* whose frame is due next: all calls have one period, so their order never changes */

static void run(u64 until, int paced) {
    for (u64 now = now_ns(); now < until; now = now_ns()) {
        u64 next = until;
        if (paced) {
            while (carriers[turn_of].due <= now) {
                struct conn *c = &carriers[turn_of];
                if (measuring && now - c->due > late_max) late_max = now - c->due;
                if (c->state == OPEN) send_sound(c);
                c->due += PERIOD_NS;
                turn_of = (turn_of + 1) % calls;
            }
            if (carriers[turn_of].due < next) next = carriers[turn_of].due;
        }
        turn(next);
    }
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "usage: see the head of media_load.c\n"); return 2; }
    struct rlimit many = {1 << 16, 1 << 16};
    struct conn listener = {.kind = LISTENER, .state = OPEN};
    const char *mode = argv[5];
    double warm = atof(argv[6]), seconds = atof(argv[7]);
    int one = 1, idle = !strcmp(mode, "idle");
    flood = !strcmp(mode, "flood");
    if (setrlimit(RLIMIT_NOFILE, &many) < 0) {
        getrlimit(RLIMIT_NOFILE, &many);
        many.rlim_cur = many.rlim_max;
        setrlimit(RLIMIT_NOFILE, &many);
    }
    signal(SIGPIPE, SIG_IGN);
    host = argv[1];
    bridge.sin_family = AF_INET;
    bridge.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, host, &bridge.sin_addr);
    histogram = calloc(BUCKETS, sizeof *histogram);
    carriers = calloc(65536, sizeof *carriers);
    epoll_fd = epoll_create1(0);
    FILE *file = fopen(argv[4], "r");
    if (!file) die(argv[4]);
    while (calls < 65536 && fscanf(file, "%599s %127s", carriers[calls].path, carriers[calls].call_id) == 2)
        carriers[calls++].times = calloc(RING, sizeof(u64));
    fclose(file);
    if (!calls) { fprintf(stderr, "media_load: no calls\n"); return 2; }

    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    inet_pton(AF_INET, host, &here.sin_addr);
    listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener.fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener.fd, 1024) < 0) die("listen");
    watch(&listener, EPOLLIN, EPOLL_CTL_ADD);

    dial_next();
    u64 give_up = now_ns() + 60000000000ULL;
    while (carriers_open < calls || agents_open < calls) {
        turn(now_ns() + 100000000ULL);
        if (now_ns() > give_up) {
            fprintf(stderr, "media_load: only %d of %d calls and %d agents came up\n", carriers_open, calls, agents_open);
            return 1;
        }
    }
    run(now_ns() + 300000000ULL, 0); /* let what each handshake left behind be done */
    say("connected");

    u64 begin = now_ns();
    for (int i = 0; i < calls; i++) carriers[i].due = begin + PERIOD_NS * i / calls;
    started = !idle;
    if (flood)
        for (int i = 0; i < calls; i++) send_sound(&carriers[i]);
    run(begin + warm * 1e9, !flood && !idle);
    measuring = 1;
    say("begin");
    u64 window = now_ns();
    double spent = cpu();
    run(window + seconds * 1e9, !flood && !idle);
    double lasted = (now_ns() - window) / 1e9;
    spent = cpu() - spent;
    say("end");
    measuring = 0;
    started = 0;
    u64 patience = now_ns() + 2000000000ULL;
    while (received + lost < transmitted && now_ns() < patience) turn(now_ns() + 10000000ULL);
    u64 missing = 0;
    for (int i = 0; i < calls; i++) missing += carriers[i].sent - carriers[i].seen;
    printf("{\"calls\": %d, \"seconds\": %.4f, \"relayed\": %llu, \"sent\": %llu, \"lost\": %llu, \"reordered\": %llu,"
           " \"misrouted\": %llu, \"stray\": %llu, \"broken\": %llu, \"marks\": %llu, \"p50_ms\": %.3f, \"p99_ms\": %.3f,"
           " \"max_ms\": %.3f, \"late_ms\": %.3f, \"load_cpu\": %.4f}\n",
           calls, lasted, relayed, transmitted, lost + missing, reordered, misrouted, stray, broken, marks, quantile(0.5),
           quantile(0.99), quantile(0.999999), late_max / 1e6, spent / lasted);
    fflush(stdout);
    char stop[200];
    for (int i = 0; i < calls; i++) {
        int n = snprintf(stop, sizeof stop,
            "{\"event\":\"stop\",\"sequenceNumber\":\"9\",\"streamSid\":\"MZ%032d\",\"stop\":{\"accountSid\":\"AC%032d\","
            "\"callSid\":\"%s\"}}", i, 0, carriers[i].call_id);
        if (carriers[i].state == OPEN) {
            put_frame(&carriers[i], 1, stop, n);
            put_frame(&carriers[i], 8, "\x03\xe8", 2);
        }
    }
    run(now_ns() + 200000000ULL, 0);
    return 0;
}
