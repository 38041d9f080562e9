/* A queue and a policy for tests of the loop: what they do is set by the test, what they were asked can be read. They
 * take the place of the real ones at link time. */
#ifndef TESTS_INGEST_FAKES_H
#define TESTS_INGEST_FAKES_H

#include <stdatomic.h>

enum fake_queue_mode {
    FAKE_ANSWERS,     /* ADD_OK after delay_ms */
    FAKE_FAILS,       /* ADD_UNAVAILABLE after delay_ms */
    FAKE_NEVER,       /* no answer until it is freed */
    FAKE_UNAVAILABLE, /* queue_add returns false */
};

struct fakes {
    _Atomic int mode, delay_ms;
    atomic_bool full;
    atomic_int added; /* events that queue_add took */
};
extern struct fakes fakes;

#endif
