#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "queue/adder.h"

/* Shared by the loop's thread and the lookup's own; the last one frees it. */
struct lookup {
    atomic_int owners;
    atomic_bool done;
    int signal_fd; /* the thread's: closing it wakes the loop */
    char host[256];
    unsigned turn;            /* a name with several addresses: another one with each try */
    char numeric[NI_MAXHOST]; /* "" when not found: then error says why */
    char error[128];
};

static void lookup_release(struct lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->owners, 1) == 1)
        free(lookup);
}

static bool resolve(struct lookup *lookup, int flags)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(lookup->host, NULL, &hints, &found);
    if (code == 0) {
        unsigned n = 0;
        for (const struct addrinfo *info = found; info != NULL; info = info->ai_next)
            n++;
        const struct addrinfo *chosen = found;
        for (unsigned i = lookup->turn % n; i > 0; i--)
            chosen = chosen->ai_next;
        code = getnameinfo(chosen->ai_addr, chosen->ai_addrlen, lookup->numeric, sizeof(lookup->numeric), NULL, 0,
                           NI_NUMERICHOST);
        freeaddrinfo(found);
    }
    if (code != 0) {
        lookup->numeric[0] = '\0';
        snprintf(lookup->error, sizeof(lookup->error), "%s", gai_strerror(code));
    }
    return code == 0;
}

static void *lookup_thread(void *arg)
{
    struct lookup *lookup = arg;
    int signal_fd = lookup->signal_fd;
    resolve(lookup, 0);
    atomic_store(&lookup->done, true);
    close(signal_fd);
    lookup_release(lookup);
    return NULL;
}

/* Ends RESOLVING. */
static void finish(struct queue_adder *adder)
{
    struct lookup *lookup = adder->lookup;
    char numeric[NI_MAXHOST];
    snprintf(numeric, sizeof(numeric), "%s", lookup->numeric);
    if (numeric[0] == '\0')
        error_set(&adder->reason, "cannot find %s: %s", lookup->host, lookup->error);
    adder->lookup = NULL;
    lookup_release(lookup);
    link_dial(adder, numeric[0] != '\0' ? numeric : NULL);
}

static void on_signal(void *arg, bool readable, bool writable)
{
    struct queue_adder *adder = arg;
    (void)writable;
    if (!readable || !atomic_load(&adder->lookup->done))
        return;
    adder->io.release(adder->lookup_watch);
    adder->lookup_watch = NULL;
    finish(adder);
}

static bool thread_start(struct lookup *lookup)
{
    pthread_t thread;
    atomic_fetch_add(&lookup->owners, 1);
    if (pthread_create(&thread, NULL, lookup_thread, lookup) == 0) {
        pthread_detach(thread);
        return true;
    }
    atomic_fetch_sub(&lookup->owners, 1);
    return false;
}

static bool start_aside(struct queue_adder *adder, struct lookup *lookup)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return false;
    lookup->signal_fd = fds[1];
    adder->lookup_watch = adder->io.watch(adder->io.loop, fds[0], on_signal, adder);
    if (adder->lookup_watch == NULL) {
        close(fds[0]);
        close(fds[1]);
        return false;
    }
    adder->io.want_read(adder->lookup_watch);
    if (thread_start(lookup))
        return true;
    close(fds[1]);
    adder->io.release(adder->lookup_watch);
    adder->lookup_watch = NULL;
    return false;
}

void lookup_start(struct queue_adder *adder)
{
    struct lookup *lookup = memory_alloc(sizeof(*lookup));
    atomic_init(&lookup->owners, 1);
    snprintf(lookup->host, sizeof(lookup->host), "%s", adder->url.host);
    lookup->turn = (unsigned)adder->dials;
    adder->lookup = lookup;
    /* An address needs no asking, so no thread. */
    if (resolve(lookup, AI_NUMERICHOST)) {
        finish(adder);
        return;
    }
    if (!start_aside(adder, lookup)) {
        snprintf(lookup->error, sizeof(lookup->error), "%s", strerror(errno));
        finish(adder);
    }
}

void lookup_cancel(struct queue_adder *adder)
{
    if (adder->lookup_watch != NULL)
        adder->io.release(adder->lookup_watch);
    if (adder->lookup != NULL)
        lookup_release(adder->lookup);
    adder->lookup_watch = NULL;
    adder->lookup = NULL;
}
