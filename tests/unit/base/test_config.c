/* Settings: what is refused, and in which words. */
#include "../check.h"

#include <stdio.h>
#include <unistd.h>

#include "base/address.h"
#include "base/config.h"

static int clear_settings(void **state)
{
    (void)state;
    static const char *const names[] = {"WAYBILL_THREADS",     "WAYBILL_LEASE_MS",         "WAYBILL_THREDS",
                                        "WAYBILL_SIMULATE",    "WAYBILL_REDIS_URL",        "WAYBILL_REDIS_URL_FILE",
                                        "WAYBILL_SECRET_DEMO", "WAYBILL_SECRET_DEMO_FILE", "WAYBILL_TLS_CERT_FILE",
                                        "WAYBILL_LISTEN",      "WAYBILL_TEST_MONGO_URL"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    return 0;
}

static enum config_result load(struct config *config, enum config_user user, char *flag, char *value, struct error *err)
{
    char name[] = "waybill";
    char *argv[] = {name, flag, value, NULL};
    int argc = flag == NULL ? 1 : value == NULL ? 2 : 3;
    return config_load(config, user, &argc, argv, err);
}

static void refused(enum config_user user, char *flag, char *value, const char *words)
{
    struct config config;
    struct error err = {""};
    assert_int_equal(load(&config, user, flag, value, &err), CONFIG_BAD);
    if (strstr(err.text, words) == NULL)
        fail_msg("'%s' is not in '%s'", words, err.text);
    config_free(&config);
}

static void defaults_are_good(void **state)
{
    (void)state;
    struct config config;
    struct error err;
    assert_int_equal(load(&config, CONFIG_WORKER, NULL, NULL, &err), CONFIG_OK);
    assert_string_equal(config.admin_listen, "127.0.0.1:9081");
    assert_int_equal(config.lease_ms, 30000);
    assert_int_equal(config.retry_attempts, 8);
    assert_false(config.simulate);
    config_free(&config);
}

static void flags_win_over_variables(void **state)
{
    (void)state;
    struct config config;
    struct error err;
    char flag[] = "--threads", value[] = "3";
    setenv("WAYBILL_THREADS", "2", 1);
    assert_int_equal(load(&config, CONFIG_INGEST, flag, value, &err), CONFIG_OK);
    assert_int_equal(config.threads, 3);
    config_free(&config);
}

static void a_misspelt_variable_is_named(void **state)
{
    (void)state;
    setenv("WAYBILL_THREDS", "2", 1);
    refused(CONFIG_INGEST, NULL, NULL, "WAYBILL_THREDS is not a setting");
}

static void malformed_values_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "0", "-1", "two", "1 ", "1.5", "0x10", "99999999999999999999", "257"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("WAYBILL_THREADS", bad[i], 1);
        refused(CONFIG_INGEST, NULL, NULL, "WAYBILL_THREADS: '");
    }
    clear_settings(NULL);
    setenv("WAYBILL_SIMULATE", "yes", 1);
    refused(CONFIG_INGEST, NULL, NULL, "WAYBILL_SIMULATE: 'yes' is not one of");
    clear_settings(NULL);
    setenv("WAYBILL_LISTEN", "localhost", 1);
    refused(CONFIG_INGEST, NULL, NULL, "WAYBILL_LISTEN: 'localhost' is not host:port");
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    setenv("WAYBILL_LEASE_MS", "10000", 1);
    refused(CONFIG_WORKER, NULL, NULL, "must be longer than WAYBILL_HANDLER_LIMIT_MS");
    clear_settings(NULL);
    setenv("WAYBILL_TLS_CERT_FILE", "/x", 1);
    refused(CONFIG_INGEST, NULL, NULL, "go together");
}

static void passwords_stay_off_the_command_line(void **state)
{
    (void)state;
    char flag[] = "--redis-url", url[] = "redis://user:pw@localhost/0";
    refused(CONFIG_INGEST, flag, url, "command line");
    char secret[] = "--secret-demo", value[] = "x";
    refused(CONFIG_INGEST, secret, value, "unknown argument");
}

static void secrets_come_from_variables_or_files(void **state)
{
    (void)state;
    char path[] = "/tmp/waybill-secret-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "one two\n", 8), 8);
    close(fd);
    struct config config;
    struct error err;
    setenv("WAYBILL_SECRET_DEMO_FILE", path, 1);
    assert_int_equal(load(&config, CONFIG_INGEST, NULL, NULL, &err), CONFIG_OK);
    assert_int_equal(config.n_secrets, 1);
    assert_string_equal(config.secrets[0].source, "demo");
    assert_string_equal(config.secrets[0].values, "one two");
    config_free(&config);
    setenv("WAYBILL_SECRET_DEMO", "three", 1);
    refused(CONFIG_INGEST, NULL, NULL, "given twice");
    unsetenv("WAYBILL_SECRET_DEMO");
    unlink(path);
    refused(CONFIG_INGEST, NULL, NULL, "cannot open");
}

static void variables_of_tests_are_left_alone(void **state)
{
    (void)state;
    struct config config;
    struct error err;
    setenv("WAYBILL_TEST_MONGO_URL", "mongodb://x", 1);
    assert_int_equal(load(&config, CONFIG_INGEST, NULL, NULL, &err), CONFIG_OK);
    config_free(&config);
}

static void reads_redis_urls(void **state)
{
    (void)state;
    struct redis_url url;
    struct error err;
    assert_true(redis_url_parse("redis://127.0.0.1:6380/2", &url, &err));
    assert_string_equal(url.host, "127.0.0.1");
    assert_int_equal(url.port, 6380);
    assert_int_equal(url.database, 2);
    assert_true(redis_url_parse("redis://u%40:p%2Fw@[::1]", &url, &err));
    assert_string_equal(url.user, "u@");
    assert_string_equal(url.password, "p/w");
    assert_string_equal(url.host, "::1");
    assert_int_equal(url.port, 6379);
    assert_true(redis_url_parse("unix://:pw@/run/redis.sock?db=3", &url, &err));
    assert_string_equal(url.unix_path, "/run/redis.sock");
    assert_string_equal(url.password, "pw");
    assert_int_equal(url.database, 3);
    static const char *const bad[] = {"",           "redis",           "redis://",     "http://x",       "redis://x:0",
                                      "redis://x:", "redis://x:99999", "redis://x/db", "redis://x:1/-1", "unix://run/x",
                                      "rediss://x", "redis://%zz@x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (redis_url_parse(bad[i], &url, &err))
            fail_msg("accepted: %s", bad[i]);
    }
}

static void a_port_in_use_is_said(void **state)
{
    (void)state;
    struct address any = {"127.0.0.1", 0};
    uint16_t port;
    struct error err;
    int first = address_listen(&any, 1, &port, &err);
    assert_true(first >= 0);
    assert_true(port > 0);
    struct address taken = {"127.0.0.1", port};
    assert_int_equal(address_listen(&taken, 1, &port, &err), -1);
    assert_non_null(strstr(err.text, "the port is in use"));
    close(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults_are_good, clear_settings),
        cmocka_unit_test_setup(flags_win_over_variables, clear_settings),
        cmocka_unit_test_setup(a_misspelt_variable_is_named, clear_settings),
        cmocka_unit_test_setup(malformed_values_are_named, clear_settings),
        cmocka_unit_test_setup(contradictions_are_refused, clear_settings),
        cmocka_unit_test_setup(passwords_stay_off_the_command_line, clear_settings),
        cmocka_unit_test_setup(secrets_come_from_variables_or_files, clear_settings),
        cmocka_unit_test_setup(variables_of_tests_are_left_alone, clear_settings),
        cmocka_unit_test(reads_redis_urls),
        cmocka_unit_test(a_port_in_use_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
