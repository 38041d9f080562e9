/* A MongoDB-protocol server for the tests. */
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *binary(void)
{
    const char *path = getenv("WAYBILL_DEVSTORE");
    return path != NULL ? path : "build/bin/waybill-devstore";
}

/* Only calls that are safe in a child of a process with threads. */
static void become_devstore(const char *address, const char *file, int out)
{
    dup2(out, STDOUT_FILENO);
    execl(binary(), "waybill-devstore", "--listen", address, "--file", file, (char *)NULL);
    _exit(127);
}

/* Reads "listening on HOST:PORT" and gives the port. */
static int read_port(int fd)
{
    FILE *lines = fdopen(fd, "r");
    char line[256];
    int port = 0;
    while (port == 0 && lines != NULL && fgets(line, sizeof(line), lines) != NULL) {
        char *colon = strrchr(line, ':');
        if (strncmp(line, "listening on ", 13) == 0 && colon != NULL)
            port = atoi(colon + 1);
    }
    if (lines != NULL)
        fclose(lines);
    return port;
}

static void launch(struct server *server)
{
    char address[64], file[128];
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%d", server->port);
    snprintf(file, sizeof(file), "%s/store", server->folder);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0)
        become_devstore(address, file, out[1]);
    close(out[1]);
    server->port = read_port(out[0]);
    if (server->port == 0)
        fail_msg("%s does not start (WAYBILL_DEVSTORE names it)", binary());
}

void server_start(struct server *server)
{
    const char *url = getenv("WAYBILL_TEST_MONGO_URL");
    *server = (struct server){0};
    if (url != NULL && url[0] != '\0') {
        snprintf(server->url, sizeof(server->url), "%s", url);
        return;
    }
    snprintf(server->folder, sizeof(server->folder), "/tmp/waybill-store-XXXXXX");
    assert_non_null(mkdtemp(server->folder));
    launch(server);
    snprintf(server->url, sizeof(server->url), "mongodb://127.0.0.1:%d", server->port);
}

static void reap(struct server *server, int signal_number)
{
    kill(server->pid, signal_number);
    waitpid(server->pid, NULL, 0);
}

void server_kill(struct server *server)
{
    reap(server, SIGKILL);
}

void server_restart(struct server *server)
{
    launch(server);
}

void server_stop(struct server *server)
{
    static const char *const endings[] = {"", "-wal", "-shm"};
    char file[128];
    if (server->pid == 0)
        return;
    reap(server, SIGTERM);
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        snprintf(file, sizeof(file), "%s/store%s", server->folder, endings[i]);
        unlink(file);
    }
    rmdir(server->folder);
}
