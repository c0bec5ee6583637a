// Classifies pictures with the exported network in ncnn, as run.py does.
//
//     classify picture.png [more ...] [--network FOLDER] [--top 3] [--threads N] [--repeat N] [--logits]
//
// FOLDER (default: where it is started) holds network.ncnn.param, network.ncnn.bin and labels.txt. The input, the
// normalisation and the engine's options are compiled in from network_config.h.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include <net.h>

#define STB_IMAGE_IMPLEMENTATION
#include "picture.h"

#include "network_config.h"

struct Options {
    std::vector<std::string> pictures;
    std::string folder = ".";
    int top = 3, threads = network::threads, repeat = 0;
    bool logits = false;
};

static Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        int* number = word == "--top" ? &options.top : word == "--threads" ? &options.threads
                    : word == "--repeat" ? &options.repeat : nullptr;
        if (word == "--logits") {
            options.logits = true;
        } else if (number || word == "--network") {
            if (++i == argc) throw std::runtime_error(word + " needs a value");
            if (!number) options.folder = argv[i];
            else if ((*number = std::atoi(argv[i])) < 1) throw std::runtime_error(word + " must be 1 or more");
        } else if (word.compare(0, 2, "--") == 0) {
            throw std::runtime_error("unknown option " + word);
        } else {
            options.pictures.push_back(word);
        }
    }
    if (options.pictures.empty())
        throw std::runtime_error("usage: classify PICTURE ... [--network FOLDER] [--top N] [--threads N] "
                                 "[--repeat N] [--logits]");
    return options;
}

static std::vector<std::string> read_labels(const std::string& path) {
    std::ifstream file(path.c_str());
    std::vector<std::string> labels;
    for (std::string line; std::getline(file, line);) labels.push_back(line);
    if (labels.empty()) throw std::runtime_error(path + ": cannot be read; give the exported folder with --network");
    return labels;
}

static void load(ncnn::Net& net, const Options& options) {
    net.opt.num_threads = options.threads;  // ncnn's default is every core
    // ncnn turns 16 bits on by itself where the CPU has them; the network was judged with what is told here.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = network::fp16;
    net.opt.use_bf16_storage = network::bf16;
    const std::string param = options.folder + "/" + network::param, bin = options.folder + "/" + network::bin;
    if (net.load_param(param.c_str()) != 0)
        throw std::runtime_error(param + ": cannot be loaded; was ncnn built with all layers, is it new enough?");
    if (net.load_model(bin.c_str()) != 0) throw std::runtime_error(bin + ": does not fit " + param);
}

// Pixels / 255, less the mean, over the standard deviation.
static ncnn::Mat normalised(const Picture& picture) {
    ncnn::Mat x(picture.width, picture.height, picture.channels);
    for (int c = 0; c < picture.channels; c++)
        for (int row = 0; row < picture.height; row++)
            for (int column = 0; column < picture.width; column++)
                x.channel(c).row(row)[column] =
                    (picture.at(column, row)[c] / 255.0f - network::mean[c]) / network::stddev[c];
    return x;
}

static std::vector<float> run(const ncnn::Net& net, const ncnn::Mat& x) {
    ncnn::Extractor extractor = net.create_extractor();
    ncnn::Mat y;
    if (extractor.input(network::input, x) != 0 || extractor.extract(network::output, y) != 0)
        throw std::runtime_error("ncnn cannot run the network");
    const ncnn::Mat flat = y.reshape(y.w * y.h * y.c);
    return std::vector<float>((const float*)flat, (const float*)flat + flat.w);
}

static std::vector<double> softmax(const std::vector<float>& logits) {
    const float largest = *std::max_element(logits.begin(), logits.end());
    std::vector<double> powers;
    for (float logit : logits) powers.push_back(std::exp(double(logit) - largest));
    const double sum = std::accumulate(powers.begin(), powers.end(), 0.0);
    for (double& power : powers) power /= sum;
    return powers;
}

// Characters of a UTF-8 text.
static int length(const std::string& text) {
    return int(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// The value below which a share of the sorted times lies, interpolated between neighbours.
static double quantile(const std::vector<double>& sorted, double share) {
    const double at = share * (sorted.size() - 1);
    const size_t below = size_t(at), above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

static void print_times(const ncnn::Net& net, const ncnn::Mat& x, int repeat) {
    std::vector<double> times_ms;
    for (int i = 0; i < repeat; i++) {
        const auto start = std::chrono::steady_clock::now();
        run(net, x);
        const auto end = std::chrono::steady_clock::now();
        times_ms.push_back(std::chrono::duration<double, std::milli>(end - start).count());
    }
    std::sort(times_ms.begin(), times_ms.end());
    std::printf("  median %.3f ms, p95 %.3f ms of %d runs\n", quantile(times_ms, 0.5), quantile(times_ms, 0.95), repeat);
}

static void classify(const ncnn::Net& net, const std::string& path, const std::vector<std::string>& labels,
                     const Options& options) {
    const ncnn::Mat x = normalised(read_picture(path, network::channels, network::height, network::width));
    const std::vector<float> logits = run(net, x);
    if (labels.size() != logits.size()) throw std::runtime_error("labels.txt does not fit the network");
    for (float logit : logits)
        if (!std::isfinite(logit)) throw std::runtime_error(path + ": the network answers NaN or infinity; use fp32");
    const std::vector<double> values =
        options.logits ? std::vector<double>(logits.begin(), logits.end()) : softmax(logits);
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    order.resize(std::min(order.size(), size_t(options.top)));
    int widest = 0;
    for (int i : order) widest = std::max(widest, length(labels[i]));
    std::printf("%s\n", path.c_str());
    for (int i : order)
        std::printf("  %s%*s %.6f\n", labels[i].c_str(), widest - length(labels[i]), "", values[i]);
    if (options.repeat) print_times(net, x, options.repeat);
}

int main(int argc, char** argv) {
    try {
        const Options options = parse(argc, argv);
        const std::vector<std::string> labels = read_labels(options.folder + "/labels.txt");
        ncnn::Net net;
        load(net, options);
        int status = 0;
        for (const std::string& path : options.pictures) {
            try {
                classify(net, path, labels, options);
            } catch (const std::exception& error) {
                std::fprintf(stderr, "classify: %s\n", error.what());
                status = 1;
            }
        }
        return status;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "classify: %s\n", error.what());
        return 2;
    }
}
