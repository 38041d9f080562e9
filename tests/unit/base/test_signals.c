/* Signals as events. */
#include "../check.h"

#include <signal.h>
#include <unistd.h>

#include "base/signals.h"

static void each_is_an_event(void **state)
{
    (void)state;
    assert_int_equal(signals_wait(0), SIGNAL_NONE);
    kill(getpid(), SIGHUP);
    assert_false(signals_stop_is_pending());
    assert_int_equal(signals_wait(-1), SIGNAL_RELOAD);
    static const int stops[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        kill(getpid(), stops[i]);
        assert_true(signals_stop_is_pending());
        assert_int_equal(signals_wait(-1), SIGNAL_STOP);
        assert_false(signals_stop_is_pending());
    }
}

static void a_stop_comes_before_a_reload(void **state)
{
    (void)state;
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGTERM);
    assert_int_equal(signals_wait(-1), SIGNAL_STOP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_an_event),
        cmocka_unit_test(a_stop_comes_before_a_reload),
    };
    signals_block();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
