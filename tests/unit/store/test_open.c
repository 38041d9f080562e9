/* The URL: what is refused before anything connects, and what no message may show. */
#include "bench.h"

#include <stdio.h>

#include "base/log.h"

static struct error refused(const char *url)
{
    struct error err = {{0}};
    struct store_options options = {.url = url, .worker = "w", .lease_ms = LEASE_MS};
    struct store *store = store_open(&options, &err);
    if (store != NULL)
        fail_msg("'%s' was taken", url);
    assert_true(strlen(err.text) > 20);
    assert_non_null(strstr(err.text, "WAYBILL_MONGO_URL"));
    return err;
}

static void taken(const char *url)
{
    struct error err = {{0}};
    struct store_options options = {.url = url, .worker = "w"};
    struct store *store = store_open(&options, &err);
    if (store == NULL)
        fail_msg("'%s': %s", url, err.text);
    store_close(store);
}

static void nonsense_is_refused_with_a_sentence(void **state)
{
    (void)state;
    refused("");
    refused("redis://127.0.0.1/0");
    refused("mongodb://");
    refused("mongodb://127.0.0.1:99999/waybill");
    refused("mongodb://127.0.0.1/waybill?heartbeatFrequencyMS=10");
    refused("mongodb://127.0.0.1/waybill?socketTimeoutMS=soon");
    assert_non_null(strstr(refused("mongodb://127.0.0.1/waybill?sockettimoutms=5").text, "sockettimoutms"));
    assert_non_null(strstr(refused("mongodb://127.0.0.1/waybill?w=0").text, "w=0"));
}

static void good_urls_are_taken(void **state)
{
    (void)state;
    taken("mongodb://127.0.0.1");
    taken("mongodb://127.0.0.1/");
    taken("mongodb://user:p%40ss@127.0.0.1,127.0.0.2:27018/db?authSource=admin&replicaSet=rs&w=2&journal=false");
    taken("mongodb://127.0.0.1/db?tls=true&tlsAllowInvalidHostnames=true&appname=mine&maxPoolSize=3");
    taken("mongodb://%2Ftmp%2Fmongo.sock/db");
}

static void passwords_are_in_no_message(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "mongodb://user:s3cret@127.0.0.1/waybill?nonsense=1",
        "mongodb://user:s3cret@127.0.0.1:99999/waybill",
        "mongodb://user:s3cret:x@127.0.0.1/waybill",
        "mongodb://user:s3cret%zz@127.0.0.1/waybill",
        "mongodb://user:s3cret@/waybill",
        "mongodb://user:s3cret",
        "mongo://user:s3cret@127.0.0.1/waybill",
    };
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct error err = refused(urls[i]);
        if (strstr(err.text, "s3cret") != NULL)
            fail_msg("the password is shown: %s", err.text);
    }
}

static void more_clients_than_the_pool_holds_are_refused(void **state)
{
    (void)state;
    struct store_options options = {.url = "mongodb://127.0.0.1:1/x?maxPoolSize=1&waitQueueTimeoutMS=50",
                                    .worker = "w"};
    struct error err = {{0}};
    struct store *store = store_open(&options, &err);
    assert_non_null(store);
    struct store_client *first = store_client_new(store);
    assert_non_null(first);
    assert_null(store_client_new(store));
    store_client_free(first);
    store_close(store);
}

static void nobody_there_is_unavailable_soon(void **state)
{
    (void)state;
    struct store_options options = {.url = "mongodb://127.0.0.1:1/waybill", .worker = "w", .lease_ms = LEASE_MS};
    struct error err = {{0}};
    struct store *store = store_open(&options, &err);
    assert_non_null(store);
    struct store_client *client = store_client_new(store);
    mono_time before = clock_mono();
    assert_int_equal(store_ping(client, &err), STORE_UNAVAILABLE);
    assert_int_equal(store_prepare(client, &err), STORE_UNAVAILABLE);
    assert_true(mono_elapsed_ms(before, clock_mono()) < LEASE_MS);
    store_client_free(client);
    store_close(store);
}

static int start(void **state)
{
    (void)state;
    store_init();
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nonsense_is_refused_with_a_sentence),
        cmocka_unit_test(good_urls_are_taken),
        cmocka_unit_test(passwords_are_in_no_message),
        cmocka_unit_test(more_clients_than_the_pool_holds_are_refused),
        cmocka_unit_test(nobody_there_is_unavailable_soon),
    };
    return cmocka_run_group_tests_name("store: open", tests, start, end);
}
