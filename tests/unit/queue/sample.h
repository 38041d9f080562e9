/* Events and clients for the tests. */
#ifndef TEST_SAMPLE_H
#define TEST_SAMPLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the four above before it */
#include <cmocka.h>

#include "queue/queue.h"
#include "redis_server.h"

/* An event of the source "demo" with this id; the other fields are fixed. Slices live as long as id and body. */
struct event sample_event(const char *id, struct slice body);

struct queue *sample_queue(struct redis_server *server, const char *consumer, int64_t lease_ms);
/* As sample_queue, with all options. */
struct queue *sample_queue_with(const char *url, const char *consumer, int64_t lease_ms, int64_t timeout_ms,
                                uint32_t partitions);

void sample_open(struct queue *queue);                    /* must succeed */
void sample_requeue(struct queue *queue, const char *id); /* puts sample_event(id) on the stream */

/* Fails the test with err's text when result is another. */
#define assert_result(result, expected, err) assert_result_at(result, expected, err, __FILE__, __LINE__)
void assert_result_at(enum queue_result result, enum queue_result expected, const struct error *err, const char *file,
                      int line);
#define assert_slice(slice, text) assert_slice_at(slice, text, __FILE__, __LINE__)
void assert_slice_at(struct slice slice, const char *text, const char *file, int line);

#endif
