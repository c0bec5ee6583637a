// A picture file as the network's training saw it: turned as its EXIF says, transparency laid on white, scaled to cover
// the network's input (bicubic, antialiased, computed as Pillow computes it), the middle cut out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <stb/stb_image.h>

typedef std::vector<unsigned char> Bytes;

// 8-bit pixels, row by row, channels interleaved.
struct Picture {
    int width, height, channels;
    Bytes pixels;

    Picture(int w, int h, int c) : width(w), height(h), channels(c), pixels(size_t(w) * h * c) {}
    unsigned char* at(int x, int y) { return &pixels[(size_t(y) * width + x) * channels]; }
    const unsigned char* at(int x, int y) const { return &pixels[(size_t(y) * width + x) * channels]; }
};

// Orientation (1 to 8) in the EXIF of a JPEG file; 1 where it tells none.
inline int exif_orientation(const Bytes& file) {
    size_t segment = 2;
    while (segment + 10 < file.size() && file[0] == 0xFF && file[1] == 0xD8 && file[segment] == 0xFF) {
        if (file[segment + 1] == 0xE1 && std::memcmp(&file[segment + 4], "Exif\0\0", 6) == 0) break;
        if (file[segment + 1] == 0xDA) return 1;  // the pixels begin
        segment += 2 + file[segment + 2] * 256 + file[segment + 3];
    }
    const size_t tiff = segment + 10;
    if (tiff + 8 > file.size() || file[0] != 0xFF || file[segment] != 0xFF) return 1;
    const bool little = file[tiff] == 'I';
    auto number = [&](size_t at, int bytes) -> size_t {
        size_t value = 0;
        for (int i = 0; i < bytes && tiff + at + i < file.size(); i++)
            value |= size_t(file[tiff + at + i]) << 8 * (little ? i : bytes - 1 - i);
        return value;
    };
    const size_t directory = number(4, 4);
    for (size_t entry = 0; entry < number(directory, 2); entry++) {
        const size_t at = directory + 2 + 12 * entry;
        if (number(at, 2) == 0x0112) {
            const int orientation = int(number(at + 8, 2));
            return orientation >= 1 && orientation <= 8 ? orientation : 1;
        }
    }
    return 1;
}

inline Picture turn(const Picture& in, int orientation) {
    const bool swap = orientation >= 5;
    const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    Picture out(swap ? in.height : in.width, swap ? in.width : in.height, in.channels);
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++) {
            const int from_x = swap ? y : x, from_y = swap ? x : y;
            std::copy_n(in.at(flip_x ? in.width - 1 - from_x : from_x, flip_y ? in.height - 1 - from_y : from_y),
                        in.channels, out.at(x, y));
        }
    return out;
}

// 1 (grey) or 3 (RGB) channels of a decoded picture with 1 to 4, an even number of which ends in alpha.
inline Picture convert(const Picture& in, int channels) {
    const bool colour = in.channels >= 3, alpha = in.channels % 2 == 0;
    Picture out(in.width, in.height, channels);
    for (int y = 0; y < in.height; y++)
        for (int x = 0; x < in.width; x++) {
            const unsigned char* pixel = in.at(x, y);
            int rgb[3];
            for (int c = 0; c < 3; c++) {
                rgb[c] = pixel[colour ? c : 0];
                if (alpha) {
                    const int opacity = pixel[in.channels - 1];
                    rgb[c] = (rgb[c] * opacity + 255 * (255 - opacity) + 127) / 255;
                }
            }
            if (channels == 1)
                *out.at(x, y) = (unsigned char)((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
            else
                std::copy_n(rgb, 3, out.at(x, y));
        }
    return out;
}

// The source pixels an output pixel is made of, from `first` on, with their weights in units of 2^-22.
struct Window {
    int first;
    std::vector<int> weights;
};

// The kernel of Keys (1981) with a = -0.5.
inline double bicubic(double x) {
    x = std::fabs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// Scales [from, to) of `size` pixels to `out_size`; the kernel grows with the scale, which is the antialiasing.
inline std::vector<Window> windows(int size, float from, float to, int out_size) {
    const double scale = double(to - from) / out_size, stretch = std::max(scale, 1.0), support = 2 * stretch;
    std::vector<Window> all(out_size);
    for (int i = 0; i < out_size; i++) {
        const double centre = from + (i + 0.5) * scale;
        const int first = std::max(int(centre - support + 0.5), 0);
        const int count = std::min(int(centre + support + 0.5), size) - first;
        std::vector<double> weights(count);
        double sum = 0;
        for (int k = 0; k < count; k++) sum += weights[k] = bicubic((first + k - centre + 0.5) / stretch);
        all[i].first = first;
        for (double weight : weights) all[i].weights.push_back(int(std::lround(weight / sum * (1 << 22))));
    }
    return all;
}

inline unsigned char rounded(int sum) { return (unsigned char)std::min(std::max(sum >> 22, 0), 255); }

inline Picture scale_rows(const Picture& in, const std::vector<Window>& columns) {
    Picture out(int(columns.size()), in.height, in.channels);
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++)
            for (int c = 0; c < in.channels; c++) {
                int sum = 1 << 21;
                for (size_t k = 0; k < columns[x].weights.size(); k++)
                    sum += columns[x].weights[k] * in.at(columns[x].first + int(k), y)[c];
                out.at(x, y)[c] = rounded(sum);
            }
    return out;
}

inline Picture scale_columns(const Picture& in, const std::vector<Window>& rows) {
    Picture out(in.width, int(rows.size()), in.channels);
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++)
            for (int c = 0; c < in.channels; c++) {
                int sum = 1 << 21;
                for (size_t k = 0; k < rows[y].weights.size(); k++)
                    sum += rows[y].weights[k] * in.at(x, rows[y].first + int(k))[c];
                out.at(x, y)[c] = rounded(sum);
            }
    return out;
}

// Scaled to cover width x height, the middle cut out.
inline Picture fit(const Picture& in, int width, int height) {
    if (in.width == width && in.height == height) return in;
    const double have = double(in.width) / in.height, want = double(width) / height;
    const double cut_width = have > want ? want * in.height : in.width;
    const double cut_height = have < want ? in.width / want : in.height;
    const double left = (in.width - cut_width) * 0.5, top = (in.height - cut_height) * 0.5;
    const std::vector<Window> columns = windows(in.width, float(left), float(left + cut_width), width);
    const std::vector<Window> rows = windows(in.height, float(top), float(top + cut_height), height);
    // Pillow's order since version 13; it shows only in what is rounded between the two.
    if (height < in.height && in.height - height > 2 * (in.width - width))
        return scale_rows(scale_columns(in, rows), columns);
    return scale_columns(scale_rows(in, columns), rows);
}

// A JPEG as it is when it is decoded at 1/8, 1/4 or 1/2 of its size, at least twice width x height: as the training did.
inline Picture draft(const Picture& in, int width, int height) {
    const int most = std::min(in.width / (2 * width), in.height / (2 * height));
    const int side = most >= 8 ? 8 : most >= 4 ? 4 : most >= 2 ? 2 : 1;
    Picture out((in.width + side - 1) / side, (in.height + side - 1) / side, in.channels);
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++)
            for (int c = 0; c < in.channels; c++) {
                const int right = std::min((x + 1) * side, in.width), bottom = std::min((y + 1) * side, in.height);
                int sum = 0, count = 0;
                for (int v = y * side; v < bottom; v++)
                    for (int u = x * side; u < right; u++, count++) sum += in.at(u, v)[c];
                out.at(x, y)[c] = (unsigned char)((sum + count / 2) / count);
            }
    return out;
}

// A picture file (JPEG, PNG, BMP, GIF, PPM …) as `channels` x height x width. Throws std::runtime_error.
inline Picture read_picture(const std::string& path, int channels, int height, int width) {
    std::ifstream stream(path.c_str(), std::ios::binary);
    const Bytes file((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    if (file.empty()) throw std::runtime_error(path + ": cannot be read, or is empty");
    const int bytes = int(file.size());
    int w = 0, h = 0, n = 0;
    const bool known = stbi_info_from_memory(file.data(), bytes, &w, &h, &n) != 0;
    Picture decoded(w, h, n);
    if (known && n == 1 && stbi_is_16_bit_from_memory(file.data(), bytes)) {
        std::unique_ptr<stbi_us, void (*)(void*)> levels(
            stbi_load_16_from_memory(file.data(), bytes, &w, &h, &n, 1), stbi_image_free);
        if (levels)
            std::transform(levels.get(), levels.get() + decoded.pixels.size(), decoded.pixels.begin(),
                           [](stbi_us level) { return (unsigned char)(level / 257); });
        else
            decoded.channels = 0;
    } else if (known) {
        std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
            stbi_load_from_memory(file.data(), bytes, &w, &h, &n, 0), stbi_image_free);
        decoded = Picture(w, h, pixels ? n : 0);
        if (pixels) std::copy_n(pixels.get(), decoded.pixels.size(), decoded.pixels.begin());
    }
    if (decoded.pixels.empty() || decoded.channels == 0)
        throw std::runtime_error(path + ": cannot be read as a picture (" + stbi_failure_reason() + ")");
    if (file[0] == 0xFF && file[1] == 0xD8) decoded = draft(decoded, width, height);
    return fit(turn(convert(decoded, channels), exif_orientation(file)), width, height);
}
