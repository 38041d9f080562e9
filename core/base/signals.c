#include "base/signals.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

static sigset_t handled(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

void signals_block(void)
{
    sigset_t set = handled();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool signals_stop_is_pending(void)
{
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}

/* Of several that are pending the system hands out the lowest number first, which is HUP. */
enum signal_event signals_wait(int timeout_ms)
{
    sigset_t set = handled();
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = (timeout_ms % 1000) * 1000000L};
    int signo;
    do {
        signo = timeout_ms < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &timeout);
    } while (signo < 0 && errno == EINTR);
    if (signo < 0)
        return SIGNAL_NONE;
    return signo == SIGHUP && !signals_stop_is_pending() ? SIGNAL_RELOAD : SIGNAL_STOP;
}
