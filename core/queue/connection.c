#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/memory.h"
#include "queue/client.h"

static struct timeval timeval_of(int64_t ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
}

static redisContext *dial(const struct queue *queue)
{
    const struct redis_url *url = &queue->url;
    struct timeval timeout = timeval_of(queue->timeout_ms);
    return url->unix_path[0] != '\0' ? redisConnectUnixWithTimeout(url->unix_path, timeout)
                                     : redisConnectWithTimeout(url->host, url->port, timeout);
}

static void describe_failure(const struct queue *queue, const char *reason, struct error *err)
{
    if (queue->url.unix_path[0] != '\0')
        error_set(err, "cannot connect to Redis at %s: %s", queue->url.unix_path, reason);
    else
        error_set(err, "cannot connect to Redis at %s:%d: %s", queue->url.host, queue->url.port, reason);
}

bool connection_set_timeout(struct queue *queue, int64_t ms, struct error *err)
{
    if (queue->read_timeout_ms == ms)
        return true;
    if (redisSetTimeout(queue->redis, timeval_of(ms)) != REDIS_OK) {
        error_set(err, "cannot set a time limit on the connection to Redis: %s", queue->redis->errstr);
        connection_close(queue);
        return false;
    }
    queue->read_timeout_ms = ms;
    return true;
}

/* All in one round trip: when an early command fails, the later ones fail too, and the first error is the one told. */
static enum queue_result greet(struct queue *queue, struct error *err)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    const struct redis_url *url = &queue->url;
    redis_pipeline_clear(pipeline);
    if (url->password[0] != '\0') {
        redis_pipeline_command(pipeline, url->user[0] != '\0' ? 3 : 2);
        command_text(&pipeline->text, "AUTH");
        if (url->user[0] != '\0')
            command_text(&pipeline->text, url->user);
        command_text(&pipeline->text, url->password);
    }
    if (url->database != 0) {
        redis_pipeline_command(pipeline, 2);
        command_text(&pipeline->text, "SELECT");
        command_number(&pipeline->text, url->database);
    }
    redis_pipeline_load_scripts(pipeline);
    enum queue_result result = queue_run(queue, err);
    if (url->password[0] != '\0' && pipeline->text.data != NULL)
        memory_wipe(pipeline->text.data, pipeline->text.size);
    return result;
}

enum queue_result connection_open(struct queue *queue, struct error *err)
{
    queue->redis = dial(queue);
    queue->read_timeout_ms = 0;
    queue->is_open = false;
    if (queue->redis == NULL || queue->redis->err != 0) {
        bool timed_out = queue->redis != NULL && queue->redis->err == REDIS_ERR_IO && errno == ETIMEDOUT;
        const char *reason = queue->redis == NULL ? "out of memory" : timed_out ? "timed out" : queue->redis->errstr;
        describe_failure(queue, reason, err);
        connection_close(queue);
        return QUEUE_UNAVAILABLE;
    }
    if (fcntl(queue->redis->fd, F_SETFD, FD_CLOEXEC) != 0) {
        error_set(err, "cannot mark the connection to Redis close-on-exec: %s", strerror(errno));
        connection_close(queue);
        return QUEUE_UNAVAILABLE;
    }
    if (!connection_set_timeout(queue, queue->timeout_ms, err))
        return QUEUE_UNAVAILABLE;
    return greet(queue, err);
}

void connection_close(struct queue *queue)
{
    if (queue->redis != NULL)
        redisFree(queue->redis);
    queue->redis = NULL;
    queue->is_open = false;
}
