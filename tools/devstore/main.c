/* waybill-devstore: settings, signals, start and stop. */
#include "base/address.h"
#include "commands.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char help[] =
    "waybill-devstore: a small MongoDB stand-in for development and tests; not for production.\n"
    "\n"
    "  --listen HOST:PORT  where to listen (default 127.0.0.1:27017; port 0 chooses one and prints it)\n"
    "  --file PATH         the SQLite file that holds the data (default waybill-devstore.sqlite);\n"
    "                      :memory: keeps nothing\n"
    "  --help              this text\n";

static int complain(const char *message)
{
    fprintf(stderr, "waybill-devstore: %s\n", message);
    return 1;
}

/* SIGTERM and SIGINT are read from a descriptor, so that no handler is needed. */
static int stop_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

static int serve(const char *listen, const char *file)
{
    char message[256] = "";
    struct error error = {.text = ""};
    struct address address;
    uint16_t port;
    struct server server = {
        .stop_fd = stop_signals(), .lock = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER};
    int listener = address_parse(listen, &address, &error) ? address_listen(&address, 256, &port, &error) : -1;
    if (listener < 0)
        error_prefix(&error, "cannot listen on %.100s", listen);
    if (listener < 0 || !server_open(&server, file, message))
        return complain(listener < 0 ? error.text : message);
    printf("waybill-devstore is for development and tests only, not for production\nlistening on %s:%u\n", address.host,
           port);
    fflush(stdout);
    server_run(&server, listener);
    server_close(&server);
    puts("stopped");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
                                            {"file", required_argument, NULL, 'f'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    const char *address = "127.0.0.1:27017", *file = "waybill-devstore.sqlite";
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (option == 'l')
            address = optarg;
        else if (option == 'f')
            file = optarg;
        else
            return complain("see --help");
    }
    return optind < argc ? complain("takes no arguments but options; see --help") : serve(address, file);
}
