/* The load of ./dev bench sip: telephones that call over SIP and RTP, many at once, on one core.
 *
 * Each call is set up with INVITE and ACK, sends a numbered 20 ms frame of PCMU each 20 ms, checks what comes back, and
 * is hung up with BYE. The far end sends the same sound back: a number that is missing or out of order is a frame lost.
 * How late a packet was sent is seen here by its timestamp: against the earliest of its call. With a file of packets
 * they are sent as they are, for SRTP, and only counted when they come back. Built by the bench with the system's C
 * compiler.
 *
 * usage: sip_load PORT USER CALLS RATE SECONDS WARM [PACKETS CRYPTO]
 *   CALLS at once, set up RATE a second; each lasts SECONDS from its answer on, and WARM of them are not measured.
 *   With CALLS larger than RATE x SECONDS, set-ups one after the other, and as many calls at once as that.
 *   USER a number from 1024 to 65535: no SIP; RTP to PORT, PORT + 2, ... from USER, USER + 2, ...
 * Prints "connected" once all calls are set up, "begin" and "end" of what is measured, then one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PERIOD 20000000ULL
#define RING 1024
#define BUCKET 10000            /* ns */
#define BUCKETS 100000          /* a second */
#define FIRST_PORT 22000        /* for RTP: below those that the system gives out */
#define LAST_PORT 32700

typedef unsigned long long u64;
enum state { WAITING, INVITED, TALKING, HUNG_UP, OVER };

struct call {
    enum state state;
    int fd, port, number, tries;
    char to[300], contact[300];
    u64 due, started, last_sent, asked;
    uint32_t sent, seen, ssrc, timestamp0; /* the first timestamp received */
    long long earliest;
    u64 times[RING];
    int have_seq;
    uint16_t last_seq;
};

struct histogram { uint32_t counts[BUCKETS]; u64 samples, most; };

static int epoll_fd, sip_fd, calls, direct, packet_count, measuring, announced;
static const char *user, *crypto;
static unsigned char (*packets)[256];
static int *packet_sizes;
static struct call *all;
static struct sockaddr_in target;
static uint16_t sip_port;
static u64 set_up, failed, invite_repeats, answer_repeats, bye_repeats, ended;
static u64 sent, received, lost, reordered, echoed, silent, gaps, own_late;
static struct histogram round_trips, lateness, set_up_times;

static u64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "sip_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void note(struct histogram *h, u64 ns) {
    u64 at = ns / BUCKET;
    h->counts[at < BUCKETS ? at : BUCKETS - 1]++;
    h->samples++;
    if (ns > h->most) h->most = ns;
}

static double quantile(struct histogram *h, double share) {
    u64 want = (u64)(share * h->samples), have = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((have += h->counts[i]) > want) return (i + 0.5) * BUCKET / 1e6;
    return h->most / 1e6;
}

/* A socket on loopback; -1 where the port is taken. */
static int udp(int port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
    int size = 4 << 20, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) die("socket");
    if (bind(fd, (void *)&here, sizeof here) < 0) { close(fd); return -1; }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return fd;
}

/* --- SIP ----------------------------------------------------------------------------------------------------------- */

static void open_rtp(struct call *c) {
    static int next = FIRST_PORT;
    for (int tries = 0; tries < (LAST_PORT - FIRST_PORT) / 2; tries++) {
        c->port = direct ? atoi(user) + 2 * c->number : next;
        if ((next += 2) > LAST_PORT) next = FIRST_PORT;
        if ((c->fd = udp(c->port)) >= 0) return;
        if (direct) break;
    }
    die("bind");
}

static void ask(struct call *c, const char *method, int cseq, const char *branch, const char *uri, const char *body) {
    char text[2000];
    int size = snprintf(text, sizeof text,
        "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bK-%d-%s;rport\r\nMax-Forwards: 70\r\n"
        "From: <sip:+12125550123@127.0.0.1:%d>;tag=load%d\r\nTo: %s\r\nCall-ID: load-%d-%d\r\nCSeq: %d %s\r\n"
        "Contact: <sip:load@127.0.0.1:%d>\r\n%sContent-Length: %zu\r\n\r\n%s",
        method, uri, sip_port, c->number, branch, sip_port, c->number, c->to, c->number, getpid(), cseq,
        method, sip_port, *body ? "Content-Type: application/sdp\r\n" : "", strlen(body), body);
    if (sendto(sip_fd, text, size, 0, (void *)&target, sizeof target) < 0 && errno != EAGAIN) die("sendto");
    c->asked = now_ns();
}

static void describe(const struct call *c, char *body, size_t room) {
    snprintf(body, room,
        "v=0\r\no=- %d 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio %d RTP/%s 0 101\r\n"
        "a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n%s%s%s",
        c->number + 1, c->port, crypto ? "SAVP" : "AVP", crypto ? "a=crypto:" : "", crypto ? crypto : "",
        crypto ? "\r\n" : "");
}

static void invite(struct call *c) {
    char body[700], uri[200];
    snprintf(uri, sizeof uri, "sip:%s@127.0.0.1:%d", user, ntohs(target.sin_port));
    if (!c->tries) {
        snprintf(c->to, sizeof c->to, "<%s>", uri);
        c->started = now_ns();
    }
    describe(c, body, sizeof body);
    c->state = INVITED;
    c->tries++;
    ask(c, "INVITE", 1, "i", uri, body);
}

static void hang_up(struct call *c) {
    c->state = HUNG_UP;
    c->tries = 1;
    ask(c, "BYE", 2, "b", c->contact, "");
}

static int header(const char *text, const char *name, char *into, size_t room) {
    char line[64];
    snprintf(line, sizeof line, "\r\n%s:", name);
    const char *at = strcasestr(text, line), *end;
    if (!at) return 0;
    at += strlen(line);
    while (*at == ' ') at++;
    end = strstr(at, "\r\n");
    if (!end || (size_t)(end - at) >= room) return 0;
    memcpy(into, at, end - at);
    into[end - at] = 0;
    return 1;
}

/* A request of theirs: some stacks send an INVITE of their own when they have been called. */
static void answer(struct call *c, const char *request) {
    static const char *copied[] = {"Via", "From", "To", "Call-ID", "CSeq"};
    char text[2400] = "SIP/2.0 200 OK\r\n", value[400], body[700] = "";
    size_t size = strlen(text);
    if (!strncmp(request, "ACK ", 4)) return;
    for (size_t i = 0; i < 5; i++)
        if (header(request, copied[i], value, sizeof value))
            size += snprintf(text + size, sizeof text - size, "%s: %s\r\n", copied[i], value);
    if (!strncmp(request, "INVITE ", 7)) describe(c, body, sizeof body);
    size += snprintf(text + size, sizeof text - size, "Contact: <sip:load@127.0.0.1:%d>\r\n%sContent-Length: %zu\r\n\r\n%s",
                     sip_port, *body ? "Content-Type: application/sdp\r\n" : "", strlen(body), body);
    if (sendto(sip_fd, text, size, 0, (void *)&target, sizeof target) < 0 && errno != EAGAIN) die("sendto");
}

static void talk(struct call *c, int port) {
    struct sockaddr_in there = target;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    u64 now = now_ns();
    there.sin_port = htons(port);
    if (connect(c->fd, (void *)&there, sizeof there) < 0) die("connect");
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) < 0) die("epoll_ctl");
    c->state = TALKING;
    c->started = now;
    c->due = now + PERIOD * c->number / (calls ? calls : 1) % PERIOD;
    c->earliest = INT64_MAX;
    c->have_seq = 0;
    set_up++;
}

static void hear_sip(void) {
    char text[4096], value[400], cseq[64];
    ssize_t size;
    while ((size = recv(sip_fd, text, sizeof text - 1, 0)) > 0) {
        int number, status = 0;
        text[size] = 0;
        if (!header(text, "Call-ID", value, sizeof value) || sscanf(value, "load-%d-", &number) != 1) continue;
        if (number < 0 || number >= calls) continue;
        struct call *c = &all[number];
        if (sscanf(text, "SIP/2.0 %d", &status) != 1) {
            answer(c, text);
            if (!strncmp(text, "BYE ", 4)) { failed++; c->state = OVER; }
            continue;
        }
        header(text, "CSeq", cseq, sizeof cseq);
        if (status < 200) { if (c->state == INVITED) c->asked += 1ULL << 40; continue; } /* no repeats after a 1xx */
        if (strstr(cseq, "BYE")) {
            if (c->state == HUNG_UP) { c->state = OVER; ended++; }
            continue;
        }
        header(text, "To", c->to, sizeof c->to);
        if (status >= 300) {
            char uri[200];
            snprintf(uri, sizeof uri, "sip:%s@127.0.0.1:%d", user, ntohs(target.sin_port));
            ask(c, "ACK", 1, "i", uri, "");
            if (c->state == INVITED) { failed++; c->state = OVER; fprintf(stderr, "sip_load: %.60s\n", text); }
            continue;
        }
        if (header(text, "Contact", value, sizeof value)) {
            char *open = strchr(value, '<'), *end = open ? strchr(open, '>') : NULL;
            if (end) { *end = 0; snprintf(c->contact, sizeof c->contact, "%.290s", open + 1); }
        }
        ask(c, "ACK", 1, "a", c->contact, "");
        if (c->state != INVITED) { answer_repeats++; continue; }
        note(&set_up_times, now_ns() - c->started);
        const char *m = strstr(text, "m=audio ");
        if (!m) { failed++; c->state = OVER; continue; }
        talk(c, atoi(m + 8));
    }
}

/* --- RTP ----------------------------------------------------------------------------------------------------------- */

static void speak(struct call *c, u64 now) {
    unsigned char p[256];
    int size = 172;
    if (now - c->due > PERIOD / 2) own_late++;
    if (packets) {
        if ((int)c->sent >= packet_count) { c->due += PERIOD; return; }
        size = packet_sizes[c->sent];
        memcpy(p, packets[c->sent], size);
    } else {
        uint32_t ts = htonl(c->ssrc * 977 + 160 * c->sent), ssrc = htonl(c->ssrc), number = c->sent;
        uint16_t seq = htons(c->sent);
        p[0] = 0x80;
        p[1] = c->sent ? 0 : 0x80;
        memcpy(p + 2, &seq, 2);
        memcpy(p + 4, &ts, 4);
        memcpy(p + 8, &ssrc, 4);
        memset(p + 12, 0x40 + c->number % 32, 160);
        for (int i = 7; i >= 0; i--) { p[12 + i] = 'A' + (number & 15); number >>= 4; }
        p[20] = c->number & 63;
    }
    c->times[c->sent % RING] = now;
    c->sent++;
    c->due += PERIOD;
    if (send(c->fd, p, size, 0) == size && measuring) sent++;
}

static void hear(struct call *c) {
    unsigned char p[2048];
    ssize_t size;
    while ((size = recv(c->fd, p, sizeof p, 0)) > 0) {
        u64 now = now_ns();
        uint32_t ts, number = 0;
        uint16_t seq;
        if (size < 172 || (p[1] & 0x7f)) continue;
        memcpy(&seq, p + 2, 2);
        memcpy(&ts, p + 4, 4);
        seq = ntohs(seq);
        ts = ntohl(ts);
        if (c->have_seq && measuring) {
            if ((uint16_t)(seq - c->last_seq) != 1) gaps++;
        }
        if (!c->have_seq) { c->timestamp0 = ts; c->have_seq = 1; }
        c->last_seq = seq;
        long long transit = (long long)now - (long long)(uint32_t)(ts - c->timestamp0) * 125000LL;
        if (transit < c->earliest) c->earliest = transit;
        if (measuring) { received++; note(&lateness, transit - c->earliest); }
        if (packets) continue;
        int letters = 1;
        for (int i = 0; i < 8; i++) {
            if (p[12 + i] < 'A' || p[12 + i] > 'P') { letters = 0; break; }
            number = number << 4 | (p[12 + i] - 'A');
        }
        if (!letters) { if (measuring) silent++; continue; }
        if (number >= c->sent || p[20] != (c->number & 63)) continue;
        if (measuring) {
            echoed++;
            if (number < c->seen) reordered++;
            else if (number > c->seen) lost += number - c->seen;
            note(&round_trips, now - c->times[number % RING]);
        }
        if (number >= c->seen) c->seen = number + 1;
    }
}

int main(int argc, char **argv) {
    if (argc < 7) { fprintf(stderr, "usage: sip_load PORT USER CALLS RATE SECONDS WARM [PACKETS CRYPTO]\n"); return 2; }
    double rate = atof(argv[4]), seconds = atof(argv[5]), warm = atof(argv[6]);
    target.sin_family = AF_INET;
    target.sin_port = htons(atoi(argv[1]));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    user = argv[2];
    direct = isdigit((unsigned char)*user) && atoi(user) >= 1024 && atoi(user) < 65536;
    calls = atoi(argv[3]);
    if (argc > 8) {
        FILE *f = fopen(argv[7], "rb");
        uint16_t size;
        crypto = argv[8];
        if (!f) die(argv[7]);
        packets = malloc(256 * 100000);
        packet_sizes = malloc(sizeof(int) * 100000);
        while (packet_count < 100000 && fread(&size, 2, 1, f) == 1 && size <= 256 && fread(packets[packet_count], size, 1, f) == 1)
            packet_sizes[packet_count++] = size;
        fclose(f);
    }
    struct rlimit most;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    epoll_fd = epoll_create1(0);
    if ((sip_fd = udp(0)) < 0) die("bind");
    struct sockaddr_in here;
    socklen_t room = sizeof here;
    getsockname(sip_fd, (void *)&here, &room);
    sip_port = ntohs(here.sin_port);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sip_fd, &e);
    all = calloc(calls, sizeof *all);
    u64 began = now_ns(), begin = 0, end = 0;
    for (int i = 0; i < calls; i++) {
        all[i].number = i;
        all[i].fd = -1;
        all[i].ssrc = 0x10000 + i;
        all[i].timestamp0 = 0;
        all[i].due = began + (u64)(1e9 * i / rate);
    }
    for (;;) {
        u64 now = now_ns(), next = now + 100000000ULL;
        int over = 0, talking = 0;
        for (int i = 0; i < calls; i++) {
            struct call *c = &all[i];
            switch (c->state) {
            case WAITING:
                if (c->due <= now) {
                    open_rtp(c);
                    if (direct) talk(c, ntohs(target.sin_port) + 2 * i);
                    else invite(c);
                }
                break;
            case INVITED:
                if (now > c->asked && now - c->asked > (500000000ULL << (c->tries - 1))) {
                    if (c->tries > 6) { failed++; c->state = OVER; break; }
                    invite_repeats++;
                    invite(c);
                }
                break;
            case TALKING:
                talking++;
                while (c->due <= now) speak(c, now);
                if (now - c->started > seconds * 1e9) { if (direct) { c->state = OVER; ended++; } else hang_up(c); }
                break;
            case HUNG_UP:
                if (now - c->asked > (500000000ULL << (c->tries - 1))) {
                    if (c->tries++ > 6) { failed++; c->state = OVER; break; }
                    bye_repeats++;
                    int tries = c->tries;
                    hang_up(c);
                    c->tries = tries;
                }
                break;
            case OVER:
                if (c->fd >= 0) { close(c->fd); c->fd = -1; }
                over++;
                continue;
            }
            if (c->state != OVER && (c->state == WAITING || c->state == TALKING) && c->due < next) next = c->due;
        }
        if (!announced && set_up + failed >= (u64)calls) { announced = 1; puts("connected"); fflush(stdout); begin = now + warm * 1e9; }
        if (begin && !measuring && !end && now >= begin) {
            measuring = 1;
            end = all[0].started + (seconds - 0.5) * 1e9;
            for (int i = 0; i < calls; i++) if (all[i].started && all[i].seen == 0) all[i].seen = all[i].sent;
            puts("begin");
            fflush(stdout);
        }
        if (measuring && now >= end) { measuring = 0; puts("end"); fflush(stdout); }
        if (over == calls) break;
        struct epoll_event got[256];
        struct timespec wait = {0, 0};
        now = now_ns();
        if (next > now) { wait.tv_sec = (next - now) / 1000000000ULL; wait.tv_nsec = (next - now) % 1000000000ULL; }
        int n = epoll_pwait2(epoll_fd, got, 256, &wait, NULL);
        for (int i = 0; i < n; i++) {
            if (got[i].data.ptr) hear(got[i].data.ptr);
            else hear_sip();
        }
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"calls\": %d, \"set_up\": %llu, \"failed\": %llu, \"ended\": %llu, \"invite_repeats\": %llu, "
           "\"answer_repeats\": %llu, \"bye_repeats\": %llu, \"sent\": %llu, \"received\": %llu, \"echoed\": %llu, "
           "\"lost\": %llu, \"reordered\": %llu, \"silent\": %llu, \"gaps\": %llu, \"own_late\": %llu, "
           "\"round_trip_p50_ms\": %.2f, \"round_trip_p99_ms\": %.2f, \"late_p50_ms\": %.2f, \"late_p99_ms\": %.2f, "
           "\"late_most_ms\": %.2f, \"set_up_p50_ms\": %.2f, \"set_up_p99_ms\": %.2f, \"cpu\": %.2f}\n",
           calls, set_up, failed, ended, invite_repeats, answer_repeats, bye_repeats, sent, received, echoed, lost,
           reordered, silent, gaps, own_late, quantile(&round_trips, 0.5), quantile(&round_trips, 0.99),
           quantile(&lateness, 0.5), quantile(&lateness, 0.99), lateness.most / 1e6, quantile(&set_up_times, 0.5),
           quantile(&set_up_times, 0.99),
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
