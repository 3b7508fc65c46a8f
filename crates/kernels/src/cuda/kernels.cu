// Kernels of the encoder on CUDA. They are compiled at start-up, for the device at hand.
//
// Maps lie channels last, (image, row, column, channel), f32; `rows` counts the pixels of all images. Channels are a
// multiple of 32, so that a warp reads one pixel's neighbouring channels, and float4 holds four of them.
// A batch norm's `norm` holds four vectors: the mean, one over the deviation, and the scale and offset that make
// `x * scale + offset` of them. Every sum is taken in a fixed order: the same input gives the same bits.

typedef unsigned int u32;

struct Window {
    int height, width, channels;
    int kernel, stride, padding;
    int out_height, out_width;
};

struct Color {
    float mean[3], deviation[3];
};

struct Step {
    float keep, beta1, one_minus_beta1, beta2, one_minus_beta2, rate, root_correction, epsilon;
};

#define EACH(index, total) \
    for (u32 index = blockIdx.x * blockDim.x + threadIdx.x; index < total; index += gridDim.x * blockDim.x)

// Blocks of sums: 32 channels by 8 rows.
#define LANES 8

__device__ float4 zero4() { return make_float4(0.f, 0.f, 0.f, 0.f); }
__device__ float4 add4(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }
__device__ float4 affine4(float4 x, float4 scale, float4 offset) {
    return make_float4(x.x * scale.x + offset.x, x.y * scale.y + offset.y, x.z * scale.z + offset.z,
                       x.w * scale.w + offset.w);
}
// NaN passes, so that a diverged training shows.
__device__ float relu(float x) { return x < 0.f ? 0.f : x; }
__device__ float4 relu4(float4 x) { return make_float4(relu(x.x), relu(x.y), relu(x.z), relu(x.w)); }
__device__ float4 mask4(float4 g, float4 out) {
    return make_float4(out.x > 0.f ? g.x : 0.f, out.y > 0.f ? g.y : 0.f, out.z > 0.f ? g.z : 0.f,
                       out.w > 0.f ? g.w : 0.f);
}

// The columns of a convolution: one row a pixel of the output, holding the window's values, (kernel, kernel, channel).
extern "C" __global__ void columns(const float4 *x, float4 *result, Window w, u32 total) {
    const u32 quads = w.channels / 4;
    EACH(i, total) {
        u32 rest = i;
        const u32 quad = rest % quads;
        rest /= quads;
        const int kx = rest % w.kernel;
        rest /= w.kernel;
        const int ky = rest % w.kernel;
        rest /= w.kernel;
        const int ox = rest % w.out_width;
        rest /= w.out_width;
        const int oy = rest % w.out_height;
        const u32 image = rest / w.out_height;
        const int y = oy * w.stride + ky - w.padding, column = ox * w.stride + kx - w.padding;
        const bool inside = y >= 0 && y < w.height && column >= 0 && column < w.width;
        result[i] = inside ? x[((image * w.height + y) * w.width + column) * quads + quad] : zero4();
    }
}

// The same for the stem: pixels are normalised on the way, and a row is filled with 0 to `row_length`.
extern "C" __global__ void stem_columns(const unsigned char *pixels, float *result, Window w, Color color,
                                        u32 row_length, u32 total) {
    EACH(i, total) {
        u32 rest = i;
        const int place = rest % row_length;
        rest /= row_length;
        const int channel = place % 3, kx = place / 3 % w.kernel, ky = place / 3 / w.kernel;
        const int ox = rest % w.out_width;
        rest /= w.out_width;
        const int oy = rest % w.out_height;
        const u32 image = rest / w.out_height;
        const int y = oy * w.stride + ky - w.padding, column = ox * w.stride + kx - w.padding;
        float value = 0.f;
        if (ky < w.kernel && y >= 0 && y < w.height && column >= 0 && column < w.width) {
            const float pixel = pixels[((image * w.height + y) * w.width + column) * 3 + channel];
            value = (pixel / 255.f - color.mean[channel]) / color.deviation[channel];
        }
        result[i] = value;
    }
}

// The gradient at a convolution's input, from the gradient at its columns; `base`, where given, is added.
extern "C" __global__ void columns_backward(const float4 *grad, const float4 *base, float4 *result, Window w, u32 total) {
    const u32 quads = w.channels / 4;
    EACH(i, total) {
        u32 rest = i;
        const u32 quad = rest % quads;
        rest /= quads;
        const int column = rest % w.width;
        rest /= w.width;
        const int y = rest % w.height;
        const u32 image = rest / w.height;
        float4 sum = base ? base[i] : zero4();
        for (int ky = 0; ky < w.kernel; ky++) {
            const int top = y + w.padding - ky;
            const int oy = top / w.stride;
            if (top < 0 || top % w.stride || oy >= w.out_height) continue;
            for (int kx = 0; kx < w.kernel; kx++) {
                const int left = column + w.padding - kx;
                const int ox = left / w.stride;
                if (left < 0 || left % w.stride || ox >= w.out_width) continue;
                const u32 row = (image * w.out_height + oy) * w.out_width + ox;
                sum = add4(sum, grad[((row * w.kernel + ky) * w.kernel + kx) * quads + quad]);
            }
        }
        result[i] = sum;
    }
}

// Sums of one part of the rows, per channel. Block (32, LANES), grid (channels / 32, parts).
__device__ void store_part(float first, float second, float2 *parts, u32 channel, u32 channels) {
    __shared__ float2 lanes[LANES][32];
    lanes[threadIdx.y][threadIdx.x] = make_float2(first, second);
    __syncthreads();
    if (threadIdx.y == 0) {
        float2 sum = lanes[0][threadIdx.x];
        for (int lane = 1; lane < LANES; lane++) {
            sum.x += lanes[lane][threadIdx.x].x;
            sum.y += lanes[lane][threadIdx.x].y;
        }
        parts[blockIdx.y * channels + channel] = sum;
    }
}

// All parts together, valid where threadIdx.y is 0. Block (32, LANES), grid (channels / 32).
__device__ double2 sum_parts(const float2 *parts, u32 count, u32 channel, u32 channels) {
    __shared__ double2 lanes[LANES][32];
    double2 sum = make_double2(0., 0.);
    for (u32 part = threadIdx.y; part < count; part += LANES) {
        const float2 value = parts[part * channels + channel];
        sum.x += value.x;
        sum.y += value.y;
    }
    lanes[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0) {
        for (int lane = 1; lane < LANES; lane++) {
            sum.x += lanes[lane][threadIdx.x].x;
            sum.y += lanes[lane][threadIdx.x].y;
        }
    }
    return sum;
}

// Sums of x - shift and of its square. The shift, the channel's first value, keeps a large mean from swallowing the
// variance.
extern "C" __global__ void statistics(const float *x, float2 *parts, u32 rows, u32 channels, u32 rows_per_part) {
    const u32 channel = blockIdx.x * 32 + threadIdx.x;
    const u32 begin = blockIdx.y * rows_per_part, end = min(rows, begin + rows_per_part);
    const float shift = x[channel];
    float sum = 0.f, squares = 0.f;
    for (u32 row = begin + threadIdx.y; row < end; row += LANES) {
        const float difference = x[row * channels + channel] - shift;
        sum += difference;
        squares += difference * difference;
    }
    store_part(sum, squares, parts, channel, channels);
}

__device__ void store_norm(float mean, float inverse, float weight, float bias, float *norm, u32 channel, u32 channels) {
    norm[channel] = mean;
    norm[channels + channel] = inverse;
    norm[2 * channels + channel] = weight * inverse;
    norm[3 * channels + channel] = bias - mean * weight * inverse;
}

// The batch's normalisation, from the sums; moves the running statistics.
extern "C" __global__ void batch_norm(const float *x, const float2 *parts, u32 count, const float *weight,
                                      const float *bias, float *running_mean, float *running_var, float *norm,
                                      u32 rows, u32 channels, float epsilon, float momentum) {
    const u32 channel = blockIdx.x * 32 + threadIdx.x;
    const double2 sums = sum_parts(parts, count, channel, channels);
    if (threadIdx.y == 0) {
        const double difference = sums.x / rows;
        const double variance = fmax(sums.y / rows - difference * difference, 0.);
        const double mean = x[channel] + difference;
        running_mean[channel] = running_mean[channel] * (1.f - momentum) + (float)mean * momentum;
        running_var[channel] = running_var[channel] * (1.f - momentum) + (float)(variance * rows / (rows - 1.)) * momentum;
        store_norm(mean, 1. / sqrt(variance + epsilon), weight[channel], bias[channel], norm, channel, channels);
    }
}

// The normalisation of inference, from the running statistics.
extern "C" __global__ void running_norm(const float *weight, const float *bias, const float *running_mean,
                                        const float *running_var, float *norm, u32 channels, float epsilon) {
    EACH(channel, channels) {
        store_norm(running_mean[channel], 1.f / sqrtf(running_var[channel] + epsilon), weight[channel], bias[channel],
                   norm, channel, channels);
    }
}

// Batch norm, the shortcut where given (normalised by its own norm where that is given), ReLU.
extern "C" __global__ void transform(const float4 *x, const float *norm, const float4 *shortcut,
                                     const float *shortcut_norm, float4 *result, u32 channels, u32 total) {
    const u32 quads = channels / 4;
    const float4 *scale = (const float4 *)(norm + 2 * channels), *offset = (const float4 *)(norm + 3 * channels);
    const float4 *other_scale = (const float4 *)(shortcut_norm + 2 * channels);
    const float4 *other_offset = (const float4 *)(shortcut_norm + 3 * channels);
    EACH(i, total) {
        const u32 quad = i % quads;
        float4 value = affine4(x[i], scale[quad], offset[quad]);
        if (shortcut) {
            const float4 other = shortcut[i];
            value = add4(value, shortcut_norm ? affine4(other, other_scale[quad], other_offset[quad]) : other);
        }
        result[i] = relu4(value);
    }
}

// Sums of the gradient g and of g times the normalised x; `out`, where given, is the ReLU's output that masks g.
extern "C" __global__ void norm_backward_sums(const float *grad, const float *out, const float *x, const float *norm,
                                              float2 *parts, u32 rows, u32 channels, u32 rows_per_part) {
    const u32 channel = blockIdx.x * 32 + threadIdx.x;
    const u32 begin = blockIdx.y * rows_per_part, end = min(rows, begin + rows_per_part);
    const float mean = norm[channel], inverse = norm[channels + channel];
    float sum = 0.f, products = 0.f;
    for (u32 row = begin + threadIdx.y; row < end; row += LANES) {
        const u32 i = row * channels + channel;
        const float g = !out || out[i] > 0.f ? grad[i] : 0.f;
        sum += g;
        products += g * ((x[i] - mean) * inverse);
    }
    store_part(sum, products, parts, channel, channels);
}

extern "C" __global__ void norm_gradients(const float2 *parts, u32 count, float *weight_grad, float *bias_grad,
                                          u32 channels) {
    const u32 channel = blockIdx.x * 32 + threadIdx.x;
    const double2 sums = sum_parts(parts, count, channel, channels);
    if (threadIdx.y == 0) {
        bias_grad[channel] = sums.x;
        weight_grad[channel] = sums.y;
    }
}

// The gradient at a batch norm's input; `masked`, where given, gets the gradient behind the ReLU, for the shortcut.
extern "C" __global__ void norm_backward(const float4 *grad, const float4 *out, const float4 *x, const float *norm,
                                         const float *weight_grad, const float *bias_grad, float4 *masked,
                                         float4 *result, float one_over_rows, u32 channels, u32 total) {
    const u32 quads = channels / 4;
    EACH(i, total) {
        const u32 quad = i % quads;
        const float4 g = out ? mask4(grad[i], out[i]) : grad[i];
        if (masked) masked[i] = g;
        const float4 value = x[i];
        const float4 mean = ((const float4 *)norm)[quad], inverse = ((const float4 *)(norm + channels))[quad];
        const float4 scale = ((const float4 *)(norm + 2 * channels))[quad];
        const float4 products = ((const float4 *)weight_grad)[quad], sums = ((const float4 *)bias_grad)[quad];
#define ONE(c) scale.c *(g.c - (sums.c + (value.c - mean.c) * inverse.c * products.c) * one_over_rows)
        result[i] = make_float4(ONE(x), ONE(y), ONE(z), ONE(w));
#undef ONE
    }
}

// Batch norm, ReLU and max-pooling; `places` keeps where in its window a maximum stands, the first of equal ones.
extern "C" __global__ void max_pool(const float *x, const float *norm, float *result, unsigned char *places, Window w,
                                    u32 total) {
    const float *scale = norm + 2 * w.channels, *offset = norm + 3 * w.channels;
    EACH(i, total) {
        u32 rest = i;
        const u32 channel = rest % w.channels;
        rest /= w.channels;
        const int ox = rest % w.out_width;
        rest /= w.out_width;
        const int oy = rest % w.out_height;
        const u32 image = rest / w.out_height;
        float largest = 0.f;
        int place = -1;
        for (int ky = 0; ky < w.kernel; ky++) {
            const int y = oy * w.stride + ky - w.padding;
            if (y < 0 || y >= w.height) continue;
            for (int kx = 0; kx < w.kernel; kx++) {
                const int column = ox * w.stride + kx - w.padding;
                if (column < 0 || column >= w.width) continue;
                const float raw = x[((image * w.height + y) * w.width + column) * w.channels + channel];
                const float value = relu(raw * scale[channel] + offset[channel]);
                if (place < 0 || value > largest || value != value) {
                    largest = value;
                    place = ky * w.kernel + kx;
                }
            }
        }
        result[i] = largest;
        if (places) places[i] = place;
    }
}

// The gradient behind the ReLU in front of a max-pooling.
extern "C" __global__ void max_pool_backward(const float *grad, const float *pooled, const unsigned char *places,
                                             float *result, Window w, u32 total) {
    EACH(i, total) {
        u32 rest = i;
        const u32 channel = rest % w.channels;
        rest /= w.channels;
        const int column = rest % w.width;
        rest /= w.width;
        const int y = rest % w.height;
        const u32 image = rest / w.height;
        float sum = 0.f;
        for (int ky = 0; ky < w.kernel; ky++) {
            const int top = y + w.padding - ky;
            const int oy = top / w.stride;
            if (top < 0 || top % w.stride || oy >= w.out_height) continue;
            for (int kx = 0; kx < w.kernel; kx++) {
                const int left = column + w.padding - kx;
                const int ox = left / w.stride;
                if (left < 0 || left % w.stride || ox >= w.out_width) continue;
                const u32 at = ((image * w.out_height + oy) * w.out_width + ox) * w.channels + channel;
                if (places[at] == ky * w.kernel + kx && pooled[at] > 0.f) sum += grad[at];
            }
        }
        result[i] = sum;
    }
}

extern "C" __global__ void average_pool(const float *x, float *result, u32 pixels, u32 channels, u32 total) {
    EACH(i, total) {
        const u32 channel = i % channels, image = i / channels;
        float sum = 0.f;
        for (u32 pixel = 0; pixel < pixels; pixel++) sum += x[(image * pixels + pixel) * channels + channel];
        result[i] = sum / pixels;
    }
}

extern "C" __global__ void average_pool_backward(const float *grad, float *result, u32 pixels, u32 channels, u32 total) {
    EACH(i, total) {
        const u32 channel = i % channels, image = i / channels / pixels;
        result[i] = grad[image * channels + channel] / pixels;
    }
}

// AdamW over all parameters; the first `decayed` of them are weights that decay.
extern "C" __global__ void adamw(float *parameters, float *first, float *second, const float *grad, Step s, u32 decayed,
                                 u32 total) {
    EACH(i, total) {
        const float g = grad[i];
        const float m = first[i] * s.beta1 + g * s.one_minus_beta1;
        const float v = second[i] * s.beta2 + g * g * s.one_minus_beta2;
        const float kept = i < decayed ? parameters[i] * s.keep : parameters[i];
        first[i] = m;
        second[i] = v;
        parameters[i] = kept - m / (sqrtf(v) / s.root_correction + s.epsilon) * s.rate;
    }
}
