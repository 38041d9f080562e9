/* Signals become ordinary events of the main thread. */
#ifndef BASE_SIGNALS_H
#define BASE_SIGNALS_H

#include <stdbool.h>

enum signal_event { SIGNAL_RELOAD /* HUP */, SIGNAL_STOP /* TERM, INT */, SIGNAL_NONE /* time is up */ };

/* Blocks HUP, TERM and INT in this thread and those started after it, and ignores PIPE. Call first in main(). */
void signals_block(void);

/* Waits for the next one in the main thread, at most timeout_ms (below 0: for ever). A stop comes before a reload. */
enum signal_event signals_wait(int timeout_ms);

/* true when a TERM or INT was sent and is not yet waited for. Any thread. */
bool signals_stop_is_pending(void);

#endif
